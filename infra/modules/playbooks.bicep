metadata name = 'Playbooks'
metadata description = 'Sentinel\'s way to the relay, by choice: Logic Apps (Consumption) with managed identities. docs/playbooks.md.'

@description('Short name of the deployment.')
@minLength(3)
@maxLength(11)
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object = {}

@description('Resource id of the Log Analytics workspace with Sentinel.')
param sentinelWorkspaceId string

// --- What is deployed -------------------------------------------------------------------------------------------------

@description('Whether an incident can be put on the queue. Default yes. With private networking it is not deployed: see the output notes.')
param queuePlaybook bool = true

@description('Whether an incident can be submitted over HTTP, with the outcome as a comment. Default yes; it takes Easy Auth.')
param incidentPlaybook bool = true

@description('Kinds of entities that an analyst can submit by hand, a Logic App for each, because a playbook has one trigger. Default: all four that can be indicators.')
param entityKinds ('ip' | 'url' | 'domain' | 'filehash')[] = ['ip', 'url', 'domain', 'filehash']

@description('What Defender does on a match. Default Audit: an entity of an incident may be a victim\'s address, and Audit blocks nothing.')
@allowed(['Audit', 'Warn', 'Block', 'BlockAndRemediate'])
param action string = 'Audit'

@description('How long an indicator stands, as a duration. Default seven days: what nobody looked at is gone soon.')
param expiration string = 'P7D'

// --- Where it goes ----------------------------------------------------------------------------------------------------

@description('URL of the queue, https://ACCOUNT.queue.SUFFIX/indicators.')
param queueUrl string

@description('Account that the queue is in.')
param storageAccountName string

@description('The queue.')
param queueName string = 'indicators'

@description('Whether the storage account is reached by private endpoints alone.')
param privateNetworking bool = false

@description('Host name of the function app.')
param functionAppHostname string

@description('Client id of the API\'s registration. Empty (keys instead of Easy Auth): nothing is deployed that calls over HTTP.')
param apiClientId string

@description('Name of the user-assigned identity that submits over HTTP; the first step makes it, the second gives it the role Submissions.Write.')
param identityName string = 'id-${name}-playbook'

// --- What starts it ---------------------------------------------------------------------------------------------------

@description('Whether an automation rule runs a playbook for each new incident: that of the queue, or over HTTP where there is none. Default no: which incidents are worth it is for the SOC to say.')
param automationRule bool = false

@description('Resource ids of the analytics rules whose incidents the automation rule takes. Default: those of all rules.')
param analyticsRuleIds string[] = []

@description('Place of the automation rule among the others.')
@minValue(1)
@maxValue(1000)
param automationRuleOrder int = 500

@description('Object id of the service principal "Azure Security Insights" (application 98785600-1bb7-4fb9-b9fa-19afe2c8a360), which runs playbooks for Sentinel. It gets its role on this resource group. Empty: it has it already.')
param securityInsightsPrincipalId string = ''

@description('Whether the identity of the queue\'s playbook gets Microsoft Sentinel Reader. Default no: it needs nothing of the workspace, whose logs that role opens. Documented for triggers; docs/playbooks.md says when.')
param queuePlaybookReadsSentinel bool = false

@description('Resource id of the workspace for the runs\' logs. Empty: none.')
param logWorkspaceId string = ''

var withQueue = queuePlaybook && !privateNetworking
var withHttp = !empty(apiClientId)
var withIncident = incidentPlaybook && withHttp
var kinds = withHttp ? entityKinds : []

var workspaceParts = split(sentinelWorkspaceId, '/')
var workspaceName = last(workspaceParts)

// As Sentinel names the kinds in the path of the entity trigger.
var triggerKind = { ip: 'IP', url: 'UrlEntity', domain: 'DNS', filehash: 'FileHash' }

var automationContributor = 'f4c81013-99ee-4d62-a7ee-b3f1f648599a'

var connectionOf = {
  azuresentinel: {
    connectionId: sentinel.id
    connectionName: sentinel.name
    id: subscriptionResourceId('Microsoft.Web/locations/managedApis', location, 'azuresentinel')
  }
}
var bySystemIdentity = { connectionProperties: { authentication: { type: 'ManagedServiceIdentity' } } }
var byUserIdentity = {
  connectionProperties: { authentication: { type: 'ManagedServiceIdentity', identity: identity.id } }
}
var meaning = { action: { value: action }, expiration: { value: expiration } }
var overHttp = {
  relayUrl: { value: 'https://${functionAppHostname}' }
  relayAudience: { value: apiClientId }
  identity: { value: identity.id }
  '$connections': { value: { azuresentinel: union(connectionOf.azuresentinel, byUserIdentity) } }
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {
  name: identityName
}

// It holds no credential: each Logic App brings its own identity.
resource sentinel 'Microsoft.Web/connections@2016-06-01' = {
  name: 'con-${name}-sentinel'
  location: location
  tags: tags
  properties: {
    displayName: 'con-${name}-sentinel'
    api: { id: subscriptionResourceId('Microsoft.Web/locations/managedApis', location, 'azuresentinel') }
    // A managed identity instead of a stored sign-in. The published type lacks it; the portal's own exports have it.
    #disable-next-line BCP037
    parameterValueType: 'Alternative'
  }
}

// --- Incident to queue: an identity of its own that can put messages on this queue, and do nothing else --------------

resource queueOnIncident 'Microsoft.Logic/workflows@2019-05-01' = if (withQueue) {
  name: 'logic-${name}-queue-incident'
  location: location
  tags: tags
  identity: { type: 'SystemAssigned' }
  properties: {
    state: 'Enabled'
    definition: loadJsonContent('../playbooks/queue-on-incident.json')
    parameters: union(meaning, {
      queueUrl: { value: queueUrl }
      '$connections': { value: { azuresentinel: union(connectionOf.azuresentinel, bySystemIdentity) } }
    })
  }
}

module sending 'playbook-queue.bicep' = if (withQueue) {
  name: '${name}-playbook-queue'
  params: {
    storageAccountName: storageAccountName
    queueName: queueName
    principalId: queueOnIncident!.identity.principalId
  }
}

// --- Incident or entity over HTTP: the identity that has the role Submissions.Write -----------------------------------

resource submitOnIncident 'Microsoft.Logic/workflows@2019-05-01' = if (withIncident) {
  name: 'logic-${name}-submit-incident'
  location: location
  tags: tags
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identity.id}': {} } }
  properties: {
    state: 'Enabled'
    definition: loadJsonContent('../playbooks/submit-on-incident.json')
    parameters: union(meaning, overHttp)
  }
}

resource submitOnEntity 'Microsoft.Logic/workflows@2019-05-01' = [
  for kind in kinds: {
    name: 'logic-${name}-submit-${kind}'
    location: location
    tags: tags
    identity: { type: 'UserAssigned', userAssignedIdentities: { '${identity.id}': {} } }
    properties: {
      state: 'Enabled'
      definition: union(loadJsonContent('../playbooks/submit-on-entity.json'), {
        triggers: {
          Microsoft_Sentinel_entity: {
            inputs: { path: '/entity/@{encodeURIComponent(\'${triggerKind[kind]}\')}' }
          }
        }
      })
      parameters: union(meaning, overHttp)
    }
  }
]

// --- Sentinel ---------------------------------------------------------------------------------------------------------

resource running 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(securityInsightsPrincipalId)) {
  name: guid(resourceGroup().id, securityInsightsPrincipalId, automationContributor)
  properties: {
    principalId: securityInsightsPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', automationContributor)
    description: 'Sentinel runs the playbooks in this resource group.'
  }
}

module workspace 'playbook-workspace.bicep' = {
  name: '${name}-playbook-workspace'
  scope: resourceGroup(workspaceParts[2], workspaceParts[4])
  dependsOn: [running]
  params: {
    name: name
    workspaceName: workspaceName
    responderPrincipalId: withIncident || !empty(kinds) ? identity.properties.principalId : ''
    readerPrincipalId: withQueue && queuePlaybookReadsSentinel ? queueOnIncident!.identity.principalId : ''
    grantResponder: withIncident || !empty(kinds)
    grantReader: withQueue && queuePlaybookReadsSentinel
    automationRule: automationRule && (withQueue || withIncident)
    playbookId: withQueue ? queueOnIncident.id : withIncident ? submitOnIncident.id : ''
    analyticsRuleIds: analyticsRuleIds
    automationRuleOrder: automationRuleOrder
  }
}

// --- Logs of the runs -------------------------------------------------------------------------------------------------

resource queueRuns 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (withQueue && !empty(logWorkspaceId)) {
  scope: queueOnIncident
  name: 'runs'
  properties: { workspaceId: logWorkspaceId, logs: [{ category: 'WorkflowRuntime', enabled: true }] }
}

resource incidentRuns 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (withIncident && !empty(logWorkspaceId)) {
  scope: submitOnIncident
  name: 'runs'
  properties: { workspaceId: logWorkspaceId, logs: [{ category: 'WorkflowRuntime', enabled: true }] }
}

resource entityRuns 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = [
  for (kind, index) in kinds: if (!empty(logWorkspaceId)) {
    scope: submitOnEntity[index]
    name: 'runs'
    properties: { workspaceId: logWorkspaceId, logs: [{ category: 'WorkflowRuntime', enabled: true }] }
  }
]

var withoutQueue = 'No playbook for the queue: with private networking the storage account takes nobody from outside of the network, and a Logic App of the Consumption plan is outside. Use the playbooks that submit over HTTP.'
var withoutHttp = 'No playbooks over HTTP: they take Easy Auth and the client id of the API\'s registration (apiClientId).'
var withoutRule = 'No automation rule: no playbook for incidents is deployed that it could run.'

output queuePlaybookName string = withQueue ? queueOnIncident.name : ''
output incidentPlaybookName string = withIncident ? submitOnIncident.name : ''
output entityPlaybookNames string[] = [for kind in kinds: 'logic-${name}-submit-${kind}']
output notes string[] = concat(
  queuePlaybook && privateNetworking ? [withoutQueue] : [],
  (incidentPlaybook || !empty(entityKinds)) && !withHttp ? [withoutHttp] : [],
  automationRule && !withQueue && !withIncident ? [withoutRule] : []
)
