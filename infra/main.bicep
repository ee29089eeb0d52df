metadata name = 'Defender Indicator Relay'
metadata description = 'Third step: everything that runs, what watches it, and who may do what with it. Safe to run again.'

// --- What and where ---------------------------------------------------------------------------------------------------

@description('Short name of this deployment, as in the steps before; every other name is made from it.')
@minLength(3)
@maxLength(11)
param name string = 'relay'

@description('Region. Default: the group\'s.')
param location string = resourceGroup().location

@description('Tags of everything.')
param tags object = {}

@description('Whether the vault and both storage accounts are locked against deletion. Default: no, or a trial could not be removed; production says yes.')
param lock bool = false

// --- Who the app is ---------------------------------------------------------------------------------------------------

@description('Name of the app\'s managed identity; the first step makes it.')
param identityName string = 'id-${name}'

@description('How the app proves who it is to Defender, as in the second step. Default: federated, so there is no secret to keep or to renew.')
@allowed(['secret', 'federated', 'managed-identity'])
param credential string = 'federated'

@description('Client id of the registration that holds Ti.ReadWrite or Ti.ReadWrite.All (output relayClientId of the second step). Empty only for managed-identity.')
param relayClientId string = ''

@description('Entra tenant whose Defender is written to. Default: that of the subscription. For another one the credential is a secret, because a managed identity vouches in its own tenant only.')
param defenderTenantId string = subscription().tenantId

@description('Cloud of the tenant; RELAY_CLOUD. Default: by the cloud that is deployed to. gcc is an AzureCloud tenant, dod an AzureUSGovernment one.')
@allowed(['commercial', 'gcc', 'gcc-high', 'dod'])
param cloud string = environment().name == 'AzureUSGovernment' ? 'gcc-high' : 'commercial'

@description('Who may write the client secret (credential secret): whoever runs scripts/secret. Default: nobody; owners of the subscription can grant it to themselves and the log shows it.')
param secretOfficers { principalId: string, principalType: 'ServicePrincipal' | 'User' | 'Group' }[] = []

// --- Who may use it ---------------------------------------------------------------------------------------------------

@description('Who may call over HTTP; RELAY_AUTH. Default: callers with a token and a role, because a key is a secret that many share and that names nobody.')
@allowed(['easy-auth', 'keys'])
param authMode string = 'easy-auth'

@description('Client id of the API\'s registration (output apiClientId of the second step). Empty only for keys.')
param apiClientId string = ''

@description('Client ids of the applications whose tokens pass: playbooks, tools. Default: none but those below.')
param callerApplications string[] = []

@description('Whether tokens that the Azure CLI got for a person pass. Default: yes, for operators and scripts/verify; the person\'s roles decide what they may.')
param allowAzureCli bool = true

@description('Who may put messages on the queue, and nothing else: object ids of managed identities, applications, groups. Default: nobody.')
param senders { principalId: string, principalType: 'ServicePrincipal' | 'User' | 'Group' }[] = []

// --- How it runs ------------------------------------------------------------------------------------------------------

@description('Memory of an instance in MB. Default 2,048: a worker holds up to 5,000 decoded indicators, 256 MiB of bodies and, when somebody looks, the whole list of the tenant; 512 is too little for that, and 4,096 only costs more.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('Most instances. Default 40, the lowest that the plan was documented to accept everywhere; newer templates use less. All instances share one call budget, so more publish nothing faster.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Instances kept ready for the HTTP functions, each paid for all day. Default 0: the first call after a pause takes some seconds longer.')
@minValue(0)
@maxValue(20)
param alwaysReadyHttp int = 0

@description('Instances kept ready for the function Publish, each paid for all day. Default 0: the first message after a pause takes some seconds longer.')
@minValue(0)
@maxValue(20)
param alwaysReadyPublisher int = 0

@description('What becomes of running instances at an update. Default Recreate: scripts/deploy pauses and waits first, so nothing is cut off, and never do two versions work on one ledger. RollingUpdate is in preview.')
@allowed(['Recreate', 'RollingUpdate'])
param updateStrategy string = 'Recreate'

@description('Whether instances are spread over the zones of the region. Default no: not every region can, and the queue keeps what an outage stops.')
param zoneRedundant bool = false

@description('Redundancy of both storage accounts. Default: three copies in one place, which every region has; production says ZRS.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param storageRedundancy string = 'Standard_LRS'

@description('Further RELAY_ settings of docs/settings.md, such as {RELAY_DEFAULT_ACTION: \'Audit\'}. Default: none; what the code has stands.')
param relaySettings object = {}

// --- The network ------------------------------------------------------------------------------------------------------

@description('Whether storage and vault are reached by private endpoints alone. Default no: it costs an endpoint for each service, and every door takes identities of Entra ID only either way.')
param privateNetworking bool = false

@description('Address space of the network, at least a /25. Default: a small private one; choose what does not overlap with yours.')
param vnetAddressPrefix string = '10.90.0.0/24'

@description('Whether the private DNS zones are made here. Default yes; no where the organisation keeps them in one place and makes the entries itself.')
param privateDnsZones bool = true

@description('Whether the app is reached from outside of the network. Default yes, for playbooks of the Consumption plan and for publishing. No takes private networking.')
param appPublicAccess bool = true

@description('Whether all that goes out to the internet has one address of its own, as a Conditional Access policy for the app needs. Default no: it costs about as much as the rest together.')
param natGateway bool = false

@description('CIDRs from which a private vault is reached, such as that of the operator who writes the secret. Default: none.')
param vaultAllowedAddresses string[] = []

// --- What watches it --------------------------------------------------------------------------------------------------

@description('Resource id of a Log Analytics workspace that exists in the same region, such as that of Sentinel. Default: one of its own.')
param workspaceId string = ''

@description('Days for which logs are kept in a workspace of its own. Default 90, as long as submissions are.')
@minValue(30)
@maxValue(730)
param retentionDays int = 90

@description('Most data a day in GB in a workspace of its own; -1 for no limit. Default 5, many times what the app writes. When it is reached the metrics end, and the alert of the heartbeat tells.')
param dailyCapGb int = 5

@description('Whether each write to the tables is logged with its caller. Default no: the app itself writes some rows for each indicator.')
param auditTables bool = false

@description('Whether the alert rules are made. Default yes: without them nobody hears of what the app tells.')
param alerts bool = true

@description('Addresses that alerts are mailed to, by an action group made here. Default: none.')
param actionGroupEmails string[] = []

@description('Resource id of an action group that exists. Default: none. Without either the alerts stand in the portal only.')
param actionGroupId string = ''

@description('Age of the oldest waiting indicator, in minutes, from which on the alert looks at whether it grows. Default 30: longer than a batch of 13,000 takes, shorter than a shift.')
@minValue(5)
@maxValue(1440)
param oldestPendingMinutes int = 30

// --- Playbooks --------------------------------------------------------------------------------------------------------

@description('Whether the playbooks for Microsoft Sentinel are deployed (docs/playbooks.md). Default no: not everybody has Sentinel. Yes takes an identity for them from the first step, and over HTTP its role from the second.')
param deployPlaybooks bool = false

@description('Resource id of the Log Analytics workspace with Sentinel, which may be of another resource group. Default: none; playbooks take one.')
param sentinelWorkspaceId string = ''

@description('Name of the playbooks\' identity. Default: as the first step names it.')
param playbookIdentityName string = 'id-${name}-playbook'

@description('What Defender does on a match of what a playbook sends. Default Audit: an entity of an incident may be a victim\'s address, and Audit blocks nothing.')
@allowed(['Audit', 'Warn', 'Block', 'BlockAndRemediate'])
param playbookAction string = 'Audit'

@description('How long what a playbook sends stands, as a duration. Default seven days: what nobody looked at is gone soon.')
param playbookExpiration string = 'P7D'

@description('Whether an automation rule runs a playbook for each new incident. Default no: which incidents are worth it is for the SOC to say.')
param automationRule bool = false

@description('Resource ids of the analytics rules whose incidents the automation rule takes. Default: those of all rules.')
param analyticsRuleIds string[] = []

@description('Object id of the service principal "Azure Security Insights" in this tenant, which runs playbooks for Sentinel and gets its role on this resource group. Default: none, it has it already.')
param securityInsightsPrincipalId string = ''

// --- Names ------------------------------------------------------------------------------------------------------------

var suffix = uniqueString(resourceGroup().id)
var appName = 'func-${name}-${suffix}'
var dataAccountName = take('st${name}${suffix}', 24)
var hostAccountName = take('sh${name}${suffix}', 24)
var vaultName = credential == 'secret' ? take('kv-${name}-${suffix}', 24) : ''
var vaultUrl = empty(vaultName) ? '' : 'https://${vaultName}${environment().suffixes.keyvaultDns}'

// As the code has them (shared/storage/connection.py); a test holds the two together.
var queues = ['indicators', 'indicators-poison']
var containers = ['parts', 'answers', 'deadletters']
var tables = ['submissions', 'open', 'intents', 'index', 'permits', 'idempotency', 'deadletters', 'suspects']
var packageContainer = 'app-package'

var storageHost = environment().suffixes.storage
// Azure CLI, a public client of Microsoft's own.
var azureCliAppId = '04b07795-8ddb-461a-bbee-02f9e1bf7b46'
var easyAuth = authMode == 'easy-auth'

// Choices that do not fit end the deployment before it begins, rather than make an app that is closed.
var government = contains(['gcc-high', 'dod'], cloud)
var misfit = credential != 'managed-identity' && empty(relayClientId)
  ? 'relayClientId is empty: it is an output of entra.bicep, the second step.'
  : easyAuth && empty(apiClientId)
      ? 'apiClientId is empty: it is an output of entra.bicep, the second step; or choose authMode keys.'
      : credential != 'secret' && defenderTenantId != subscription().tenantId
          ? 'A managed identity vouches in its own tenant only: for defenderTenantId choose credential secret.'
          : credential != 'secret' && government != (environment().name == 'AzureUSGovernment')
              ? 'The managed identity is of another cloud than the tenant: choose credential secret, or correct cloud.'
              : deployPlaybooks && empty(sentinelWorkspaceId)
                  ? 'sentinelWorkspaceId is empty: playbooks belong to a workspace with Sentinel.'
                  : ''

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {
  name: identityName
}

// --- Settings of the app ----------------------------------------------------------------------------------------------

var hostStorage = {
  AzureWebJobsStorage__blobServiceUri: 'https://${hostAccountName}.blob.${storageHost}'
  AzureWebJobsStorage__queueServiceUri: 'https://${hostAccountName}.queue.${storageHost}'
  AzureWebJobsStorage__tableServiceUri: 'https://${hostAccountName}.table.${storageHost}'
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identity.properties.clientId
}
var relayStorage = {
  RelayStorage__blobServiceUri: 'https://${dataAccountName}.blob.${storageHost}'
  RelayStorage__queueServiceUri: 'https://${dataAccountName}.queue.${storageHost}'
  RelayStorage__tableServiceUri: 'https://${dataAccountName}.table.${storageHost}'
  RelayStorage__credential: 'managedidentity'
  RelayStorage__clientId: identity.properties.clientId
}
var telemetry = {
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
}
var relay = {
  RELAY_CLOUD: empty(misfit) ? cloud : fail(misfit)
  RELAY_TENANT_ID: defenderTenantId
  RELAY_CREDENTIAL: credential
  RELAY_MANAGED_IDENTITY_CLIENT_ID: identity.properties.clientId
  RELAY_AUTH: authMode
}
var relayIdentity = credential == 'managed-identity' ? {} : { RELAY_CLIENT_ID: relayClientId }
var relayVault = empty(vaultName) ? {} : { RELAY_VAULT_URL: vaultUrl }
var relayAuth = easyAuth ? { RELAY_AUTH_CLIENT_ID: apiClientId } : {}
// Callers are of the subscription's tenant, whosever Defender is written to.
var relayAuthTenant = easyAuth && defenderTenantId != subscription().tenantId
  ? { RELAY_AUTH_TENANT_ID: subscription().tenantId }
  : {}

// --- Resources --------------------------------------------------------------------------------------------------------

module monitoring 'modules/monitoring.bicep' = {
  name: '${name}-monitoring'
  params: {
    name: name
    location: location
    tags: tags
    workspaceId: workspaceId
    retentionDays: retentionDays
    dailyCapGb: dailyCapGb
  }
}

// Two accounts: the host of the app needs the whole of one (it lists containers and makes tables), and who may touch the
// app's keys and package must not thereby touch the queue and the ledger, or the other way round.
module hostStorageAccount 'modules/storage.bicep' = {
  name: '${name}-host-storage'
  params: {
    name: hostAccountName
    location: location
    tags: tags
    redundancy: storageRedundancy
    containers: [packageContainer]
    private: privateNetworking
    lock: lock
  }
}

module dataStorageAccount 'modules/storage.bicep' = {
  name: '${name}-data-storage'
  params: {
    name: dataAccountName
    location: location
    tags: tags
    redundancy: storageRedundancy
    queues: queues
    containers: containers
    tables: tables
    private: privateNetworking
    // A part that somebody deletes by hand can be brought back for as long as its items are tried.
    undeleteDays: 7
    lifecycle: [
      // The app forgets these after RELAY_KEEP_KEYS_DAYS (7); this is for what it lost sight of.
      { name: 'old-answers', prefixes: ['answers/'], deleteAfter: 30, coolAfter: 0 }
      // Kept for ever and hardly ever read.
      { name: 'cool-dead-letters', prefixes: ['deadletters/'], deleteAfter: 0, coolAfter: 30 }
    ]
    lock: lock
  }
}

module vault 'modules/vault.bicep' = if (!empty(vaultName)) {
  name: '${name}-vault'
  params: {
    name: vaultName
    location: location
    tags: tags
    private: privateNetworking
    allowedAddresses: vaultAllowedAddresses
    lock: lock
  }
}

module roles 'modules/roles.bicep' = {
  name: '${name}-roles'
  dependsOn: [hostStorageAccount, dataStorageAccount, vault]
  params: {
    principalId: identity.properties.principalId
    hostAccountName: hostAccountName
    dataAccountName: dataAccountName
    queues: queues
    containers: containers
    senderQueue: queues[0]
    senders: senders
    vaultName: vaultName
    secretOfficers: secretOfficers
    insightsName: monitoring.outputs.insightsName
  }
}

module network 'modules/network.bicep' = if (privateNetworking) {
  name: '${name}-network'
  params: {
    name: name
    location: location
    tags: tags
    addressPrefix: vnetAddressPrefix
    natGateway: natGateway
    zones: privateDnsZones ? zones : []
  }
}

var webHost = environment().name == 'AzureUSGovernment' ? 'azurewebsites.us' : 'azurewebsites.net'
var zoneOf = {
  blob: 'privatelink.blob.${storageHost}'
  queue: 'privatelink.queue.${storageHost}'
  table: 'privatelink.table.${storageHost}'
  vault: 'privatelink.${replace(substring(environment().suffixes.keyvaultDns, 1), 'vault.', 'vaultcore.')}'
  sites: 'privatelink.${webHost}'
}
var targets = concat(
  [
    { name: 'data-blob', id: resourceId('Microsoft.Storage/storageAccounts', dataAccountName), group: 'blob' }
    { name: 'data-queue', id: resourceId('Microsoft.Storage/storageAccounts', dataAccountName), group: 'queue' }
    { name: 'data-table', id: resourceId('Microsoft.Storage/storageAccounts', dataAccountName), group: 'table' }
    { name: 'host-blob', id: resourceId('Microsoft.Storage/storageAccounts', hostAccountName), group: 'blob' }
    { name: 'host-table', id: resourceId('Microsoft.Storage/storageAccounts', hostAccountName), group: 'table' }
  ],
  empty(vaultName) ? [] : [{ name: 'vault', id: resourceId('Microsoft.KeyVault/vaults', vaultName), group: 'vault' }]
)
var zones = map(
  concat(['blob', 'queue', 'table'], empty(vaultName) ? [] : ['vault'], appPublicAccess ? [] : ['sites']),
  group => zoneOf[group]
)

module endpoints 'modules/endpoint.bicep' = [
  for target in targets: if (privateNetworking) {
    name: '${name}-endpoint-${target.name}'
    dependsOn: [hostStorageAccount, dataStorageAccount, vault]
    params: {
      name: 'pe-${name}-${target.name}'
      location: location
      tags: tags
      subnetId: network!.outputs.endpointSubnetId
      targetId: target.id
      group: target.group
      zone: privateDnsZones ? zoneOf[target.group] : ''
    }
  }
]

module app 'modules/app.bicep' = {
  name: '${name}-app'
  // The container and the roles on it must be there before the app, and with a network the way to them.
  dependsOn: [roles, endpoints]
  params: {
    name: appName
    planName: 'plan-${name}'
    location: location
    tags: tags
    identityId: identity.id
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyHttp: alwaysReadyHttp
    alwaysReadyPublisher: alwaysReadyPublisher
    updateStrategy: updateStrategy
    zoneRedundant: zoneRedundant
    packageUrl: 'https://${hostAccountName}.blob.${storageHost}/${packageContainer}'
    settings: union(
      hostStorage,
      relayStorage,
      telemetry,
      relay,
      relayIdentity,
      relayVault,
      relayAuth,
      relayAuthTenant,
      relaySettings
    )
    insightsName: monitoring.outputs.insightsName
    subnetId: privateNetworking ? network!.outputs.appSubnetId : ''
    publicAccess: appPublicAccess
  }
}

module appEndpoint 'modules/endpoint.bicep' = if (privateNetworking && !appPublicAccess) {
  name: '${name}-endpoint-app'
  params: {
    name: 'pe-${name}-app'
    location: location
    tags: tags
    subnetId: network!.outputs.endpointSubnetId
    targetId: app.outputs.id
    group: 'sites'
    zone: privateDnsZones ? zoneOf.sites : ''
  }
}

module authentication 'modules/auth.bicep' = {
  name: '${name}-authentication'
  params: {
    appName: app.outputs.name
    enabled: easyAuth
    apiClientId: apiClientId
    allowedApplications: concat(
      callerApplications,
      allowAzureCli ? [azureCliAppId] : [],
      deployPlaybooks ? [playbookIdentity!.properties.clientId] : []
    )
  }
}

module diagnostics 'modules/diagnostics.bicep' = {
  name: '${name}-diagnostics'
  dependsOn: [hostStorageAccount, dataStorageAccount, vault]
  params: {
    workspaceId: monitoring.outputs.workspaceId
    appName: app.outputs.name
    hostAccountName: hostAccountName
    dataAccountName: dataAccountName
    vaultName: vaultName
    auditTables: auditTables
  }
}

resource playbookIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = if (deployPlaybooks) {
  name: playbookIdentityName
}

module playbooks 'modules/playbooks.bicep' = if (deployPlaybooks) {
  name: '${name}-playbooks'
  dependsOn: [dataStorageAccount]
  params: {
    name: name
    location: location
    tags: tags
    sentinelWorkspaceId: sentinelWorkspaceId
    identityName: playbookIdentityName
    action: playbookAction
    expiration: playbookExpiration
    queueUrl: 'https://${dataAccountName}.queue.${storageHost}/${queues[0]}'
    queueName: queues[0]
    storageAccountName: dataAccountName
    privateNetworking: privateNetworking
    functionAppHostname: app.outputs.hostname
    apiClientId: easyAuth ? apiClientId : ''
    automationRule: automationRule
    analyticsRuleIds: analyticsRuleIds
    securityInsightsPrincipalId: securityInsightsPrincipalId
    logWorkspaceId: monitoring.outputs.workspaceId
  }
}

module alerting 'modules/alerts.bicep' = if (alerts) {
  name: '${name}-alerts'
  params: {
    name: name
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    appName: appName
    emails: actionGroupEmails
    actionGroupId: actionGroupId
    oldestPendingMinutes: oldestPendingMinutes
    maximumInstanceCount: maximumInstanceCount
    withSecret: credential == 'secret'
  }
}

module workbook 'modules/workbook.bicep' = {
  name: '${name}-workbook'
  params: {
    name: name
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    appName: appName
    withSecret: credential == 'secret'
  }
}

@description('Name of the function app.')
output functionAppName string = app.outputs.name
@description('Host name of the app; the API is below https://HOST/api.')
output functionAppHostname string = app.outputs.hostname
@description('Account with the queue, the parts and the ledger.')
output storageAccountName string = dataAccountName
@description('Account of the Functions host, with the package of the app.')
output hostStorageAccountName string = hostAccountName
@description('Where senders put messages.')
output queueUrl string = 'https://${dataAccountName}.queue.${storageHost}/${queues[0]}'
@description('Vault for the client secret; empty without one.')
output vaultName string = vaultName
@description('The same as an address.')
output vaultUrl string = vaultUrl
@description('Workspace with metrics and logs.')
output workspaceId string = monitoring.outputs.workspaceId
@description('Object id of the app\'s identity.')
output identityPrincipalId string = identity.properties.principalId
@description('Client id of the app\'s identity.')
output identityClientId string = identity.properties.clientId
@description('Address from which the app goes out to the internet; empty without a NAT gateway.')
output egressAddress string = privateNetworking ? network!.outputs.egressAddress : ''
@description('What the playbooks could not be deployed with, and what to use instead; to be shown to whoever deploys.')
output playbookNotes string[] = deployPlaybooks ? playbooks!.outputs.notes : []
