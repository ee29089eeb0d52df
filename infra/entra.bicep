metadata name = 'Defender Indicator Relay: Entra ID'
metadata description = 'Second step, run once by a privileged administrator: the app registration that holds the Defender permission, its consent and credential, and the registration of the HTTP API. Public cloud only, as the Graph extension is.'

extension microsoftGraphV1

@description('Short name of this deployment, as in the first step.')
@minLength(3)
@maxLength(11)
param name string = 'relay'

@description('Name of the app\'s managed identity in this resource group; the first step makes it.')
param identityName string = 'id-${name}'

@description('How the app proves who it is; docs/identity.md compares the three. Default: the managed identity vouches for an app registration, so there is no secret to keep or to renew, and a new identity does not make the indicators somebody else\'s.')
@allowed(['secret', 'federated', 'managed-identity'])
param credential string = 'federated'

@description('Application permission of Defender. Default: the narrower one, which can neither see nor change what others created. With Ti.ReadWrite.All the app also knows how full the tenant is and what others hold for a value.')
@allowed(['Ti.ReadWrite', 'Ti.ReadWrite.All'])
param permission string = 'Ti.ReadWrite'

@description('Who may call over HTTP. Default: callers with a token and a role, because a key is a secret that many share and that names nobody.')
@allowed(['easy-auth', 'keys'])
param authMode string = 'easy-auth'

@description('Object ids of the owners of both registrations. Default: none, because an owner can add credentials and roles; administrators can act without being owners.')
param owners string[] = []

@description('Audience of the federated assertion; as RELAY_FEDERATED_AUDIENCE.')
param federatedAudience string = 'api://AzureADTokenExchange'

@description('Whether the playbooks\' identity (first step) gets the role Submissions.Write.')
param playbooks bool = false

@description('Who gets which role of the API: the role (docs/access.md) and the object id of a service principal, group or user.')
param apiAssignments {
  role: 'Submissions.Write' | 'Indicators.Read' | 'Operations.Manage' | 'Guards.Override' | 'Indicators.Allow'
  principalId: string
}[] = []

// WindowsDefenderATP, the service behind the indicators API. Its role ids are looked up by name below.
var defenderAppId = 'fc780465-2017-40d4-a0c5-307022471b92'
// Azure CLI, a public client of Microsoft's own: operators and scripts/verify sign in with it.
var azureCliAppId = '04b07795-8ddb-461a-bbee-02f9e1bf7b46'
var suffix = uniqueString(resourceGroup().id)
var relayName = 'defender-indicator-relay-${name}-${suffix}'
var apiName = 'defender-indicator-relay-api-${name}-${suffix}'
// As in main.bicep, which comes later. The extension knows the public cloud alone.
var appHost = 'func-${name}-${suffix}.azurewebsites.net'
var withApp = credential != 'managed-identity'
var withApi = authMode == 'easy-auth'
var roleId = filter(defender.appRoles, role => role.value == permission)[0].id
var issuer = '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
var roles = {
  'Submissions.Write': 'Submit indicators, and look at what one submitted.'
  'Indicators.Read': 'Look at all submissions, indicators, capacity and the state of the app.'
  'Operations.Manage': 'The same, and undo, stop and resume, dead letters.'
  'Guards.Override': 'With Submissions.Write: publish what a guard rejects, with a reason.'
  'Indicators.Allow': 'With Submissions.Write: submit the action Allowed, which switches protection off for a value.'
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {
  name: identityName
}

resource playbookIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = if (playbooks) {
  name: 'id-${name}-playbook'
}

resource defender 'Microsoft.Graph/servicePrincipals@v1.0' existing = {
  appId: defenderAppId
}

// --- The app towards Defender ---------------------------------------------------------------------------------------

resource relayApp 'Microsoft.Graph/applications@v1.0' = if (withApp) {
  uniqueName: relayName
  displayName: 'Defender Indicator Relay (${name})'
  description: 'Publishes threat indicators to Microsoft Defender for Endpoint.'
  signInAudience: 'AzureADMyOrg'
  requiredResourceAccess: [
    {
      resourceAppId: defenderAppId
      resourceAccess: [{ id: roleId, type: 'Role' }]
    }
  ]
  // Credentials can be added to the registration alone, where its owners and the audit log see them.
  servicePrincipalLockConfiguration: { isEnabled: true, allProperties: true }
  owners: { relationships: owners }

  resource federation 'federatedIdentityCredentials' = if (credential == 'federated') {
    name: '${relayName}/managed-identity'
    description: 'The managed identity of the function app vouches for this registration.'
    issuer: issuer
    subject: identity.properties.principalId
    audiences: [federatedAudience]
  }
}

resource relayPrincipal 'Microsoft.Graph/servicePrincipals@v1.0' = if (withApp) {
  appId: relayApp!.appId
  // Nobody signs in to it, and nobody asks for tokens for it.
  appRoleAssignmentRequired: true
  tags: ['HideApp']
  owners: { relationships: owners }
}

// The admin consent: Defender's role for the registration, or for the identity itself.
resource consent 'Microsoft.Graph/appRoleAssignedTo@v1.0' = if (withApp) {
  appRoleId: roleId
  principalId: relayPrincipal!.id
  resourceId: defender.id
}

resource identityConsent 'Microsoft.Graph/appRoleAssignedTo@v1.0' = if (!withApp) {
  appRoleId: roleId
  principalId: identity.properties.principalId
  resourceId: defender.id
}

// --- The HTTP API towards its callers -------------------------------------------------------------------------------

resource apiApp 'Microsoft.Graph/applications@v1.0' = if (withApi) {
  uniqueName: apiName
  displayName: 'Defender Indicator Relay API (${name})'
  description: 'The HTTP API of the Defender Indicator Relay: who may call it, in which roles.'
  signInAudience: 'AzureADMyOrg'
  api: {
    requestedAccessTokenVersion: 2
    oauth2PermissionScopes: [
      {
        id: guid(apiName, 'user_impersonation')
        value: 'user_impersonation'
        type: 'User'
        isEnabled: true
        adminConsentDisplayName: 'Call the Defender Indicator Relay'
        adminConsentDescription: 'Lets an application call the relay for the person who signed in, with that person\'s roles.'
        userConsentDisplayName: 'Call the Defender Indicator Relay'
        userConsentDescription: 'Lets this application call the relay for you, with your roles.'
      }
    ]
    preAuthorizedApplications: [
      {
        appId: azureCliAppId
        delegatedPermissionIds: [guid(apiName, 'user_impersonation')]
      }
    ]
  }
  appRoles: [
    for role in items(roles): {
      id: guid(apiName, role.key)
      value: role.key
      displayName: role.key
      description: role.value
      isEnabled: true
      allowedMemberTypes: ['User', 'Application']
    }
  ]
  // The platform's own sign-in path. No ID tokens and no secret: nobody gets a session cookie that a foreign page could use.
  web: {
    redirectUris: ['https://${appHost}/.auth/login/aad/callback']
    implicitGrantSettings: { enableAccessTokenIssuance: false, enableIdTokenIssuance: false }
  }
  servicePrincipalLockConfiguration: { isEnabled: true, allProperties: true }
  owners: { relationships: owners }
}

// The identifier URI holds the client id, which is known only once the registration exists: hence a second writing.
module apiUri 'modules/entra-uri.bicep' = if (withApi) {
  name: '${name}-api-uri'
  params: {
    uniqueName: apiName
    displayName: 'Defender Indicator Relay API (${name})'
    appId: apiApp!.appId
  }
}

resource apiPrincipal 'Microsoft.Graph/servicePrincipals@v1.0' = if (withApi) {
  appId: apiApp!.appId
  // No token at all for those without a role.
  appRoleAssignmentRequired: true
  owners: { relationships: owners }
}

resource playbookRole 'Microsoft.Graph/appRoleAssignedTo@v1.0' = if (withApi && playbooks) {
  appRoleId: guid(apiName, 'Submissions.Write')
  principalId: playbookIdentity!.properties.principalId
  resourceId: apiPrincipal!.id
}

resource assignments 'Microsoft.Graph/appRoleAssignedTo@v1.0' = [
  for one in apiAssignments: if (withApi) {
    appRoleId: guid(apiName, one.role)
    principalId: one.principalId
    resourceId: apiPrincipal!.id
  }
]

@description('For main.bicep. Empty when the managed identity holds the role itself.')
output relayClientId string = withApp ? relayApp!.appId : ''
@description('For main.bicep. Empty in key mode.')
output apiClientId string = withApi ? apiApp!.appId : ''
@description('What callers ask a token for.')
output apiAudience string = withApi ? 'api://${apiApp!.appId}' : ''
