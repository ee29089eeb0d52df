metadata name = 'Function app'
metadata description = 'Flex Consumption plan and app. Storage, vault, Defender and Application Insights are all reached with the user-assigned identity; no setting is a secret.'

@description('Name of the app.')
param name string

@description('Name of the plan. A Flex Consumption plan holds one app.')
param planName string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Resource id of the app\'s identity.')
param identityId string

@description('Memory of an instance in MB.')
param instanceMemoryMB int

@description('Most instances.')
param maximumInstanceCount int

@description('Instances kept ready for the HTTP functions.')
param alwaysReadyHttp int

@description('Instances kept ready for the function Publish.')
param alwaysReadyPublisher int

@description('What becomes of running instances at an update.')
param updateStrategy string

@description('Whether instances are spread over the zones of the region.')
param zoneRedundant bool

@description('URL of the container that holds the package of the app.')
param packageUrl string

@description('Application settings.')
param settings object

@description('Application Insights component.')
param insightsName string

@description('Resource id of the subnet for outbound traffic; empty: none.')
param subnetId string

@description('Whether callers and the deployment reach the app from outside of the network.')
param publicAccess bool

var alwaysReady = concat(
  alwaysReadyHttp > 0 ? [{ name: 'http', instanceCount: alwaysReadyHttp }] : [],
  alwaysReadyPublisher > 0 ? [{ name: 'function:Publish', instanceCount: alwaysReadyPublisher }] : []
)

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: {
    reserved: true
    zoneRedundant: zoneRedundant
  }
}

resource app 'Microsoft.Web/sites@2024-11-01' = {
  name: name
  location: location
  tags: tags
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientAffinityEnabled: false
    publicNetworkAccess: publicAccess ? 'Enabled' : 'Disabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    siteConfig: {
      ftpsState: 'Disabled'
      http20Enabled: true
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      remoteDebuggingEnabled: false
      // The app answers browsers itself, by RELAY_CORS_ORIGINS; the platform's list would answer before it.
      cors: { allowedOrigins: [] }
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageUrl
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      runtime: { name: 'python', version: '3.13' }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: alwaysReady
      }
      #disable-next-line BCP037 // The service takes it with this version; the published types do not have it yet.
      siteUpdateStrategy: { type: updateStrategy }
    }
  }

  // User name and password for publishing are off on both doors; scripts/deploy comes with a token.
  resource ftp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: { allow: false }
  }

  resource scm 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: { allow: false }
  }

  resource appSettings 'config' = {
    name: 'appsettings'
    properties: union(settings, {
      // Names the component and its region. It opens nothing: the component takes no key.
      APPLICATIONINSIGHTS_CONNECTION_STRING: insights.properties.ConnectionString
    })
  }
}

output name string = app.name
output id string = app.id
output hostname string = app.properties.defaultHostName
