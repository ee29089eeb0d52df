metadata name = 'Log Analytics and Application Insights'
metadata description = 'Where metrics and logs go. The app sends with its identity; there is no key that would let others send.'

@description('Short name of the deployment.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Resource id of a workspace that exists; empty: one of its own.')
param workspaceId string

@description('Days for which logs are kept, in a workspace of its own.')
param retentionDays int

@description('Most data a day in GB, in a workspace of its own; -1 for no limit.')
param dailyCapGb int

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = if (empty(workspaceId)) {
  name: 'log-${name}'
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: retentionDays
    workspaceCapping: { dailyQuotaGb: dailyCapGb }
    features: {
      // Nobody sends or reads with the workspace's shared key, and who may read a resource may read its logs.
      disableLocalAuth: true
      enableLogAccessUsingOnlyResourcePermissions: true
    }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-${name}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: empty(workspaceId) ? workspace.id : workspaceId
    DisableLocalAuth: true
    // Addresses of callers are masked, as by default.
    DisableIpMasking: false
  }
}

output workspaceId string = empty(workspaceId) ? workspace.id : workspaceId
output insightsName string = insights.name
output insightsId string = insights.id
