metadata name = 'App Service authentication'
metadata description = 'Checks the token of every caller before the app sees the request. docs/access.md says why each value is as it is.'

@description('Name of the function app.')
param appName string

@description('Whether it checks. Written in key mode too, so that what an earlier deployment switched on does not stay on.')
param enabled bool

@description('Client id of the API\'s registration.')
param apiClientId string

@description('Client ids that are let through. Others get 403 from the platform whatever their token says.')
param allowedApplications string[]

// No excluded paths: nothing shows what becomes of forged headers there. No client secret: nobody signs in here.
var checking = {
  platform: { enabled: true }
  globalValidation: {
    requireAuthentication: true
    unauthenticatedClientAction: 'Return401'
  }
  httpSettings: { requireHttps: true }
  identityProviders: {
    azureActiveDirectory: {
      enabled: true
      registration: {
        openIdIssuer: '${environment().authentication.loginEndpoint}${subscription().tenantId}/v2.0'
        clientId: apiClientId
      }
      validation: {
        allowedAudiences: ['api://${apiClientId}']
        defaultAuthorizationPolicy: { allowedApplications: allowedApplications }
      }
    }
  }
  login: { tokenStore: { enabled: false } }
}

resource app 'Microsoft.Web/sites@2024-11-01' existing = {
  name: appName
}

resource authentication 'Microsoft.Web/sites/config@2024-11-01' = {
  parent: app
  name: 'authsettingsV2'
  properties: enabled ? checking : { platform: { enabled: false } }
}
