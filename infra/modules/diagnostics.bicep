metadata name = 'Diagnostic settings'
metadata description = 'Who touched what: the trail of vault, storage and app in the workspace.'

@description('Workspace that the trail goes to.')
param workspaceId string

@description('Function app.')
param appName string

@description('Account of the Functions host.')
param hostAccountName string

@description('Account with the queue, the parts and the ledger.')
param dataAccountName string

@description('Vault; empty: none.')
param vaultName string

@description('Whether writes to tables are logged too.')
param auditTables bool

resource app 'Microsoft.Web/sites@2024-11-01' existing = {
  name: appName
}

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' existing = if (!empty(vaultName)) {
  name: vaultName
}

resource hostBlobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' existing = {
  name: '${hostAccountName}/default'
}

resource dataBlobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' existing = {
  name: '${dataAccountName}/default'
}

resource dataQueues 'Microsoft.Storage/storageAccounts/queueServices@2024-01-01' existing = {
  name: '${dataAccountName}/default'
}

resource dataTables 'Microsoft.Storage/storageAccounts/tableServices@2024-01-01' existing = {
  name: '${dataAccountName}/default'
}

// Each reading of the secret, each refusal, each change of the vault.
resource vaultLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (!empty(vaultName)) {
  scope: vault
  name: 'to-workspace'
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
  }
}

// The host's own log tells of failures before Application Insights is there; and the refusals of App Service authentication.
resource appLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: app
  name: 'to-workspace'
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
  }
}

// Who put another package or another key in place. Reads are the host's own, all day long.
resource hostBlobLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: hostBlobs
  name: 'to-workspace'
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'StorageWrite', enabled: true }
      { category: 'StorageDelete', enabled: true }
    ]
  }
}

resource dataBlobLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: dataBlobs
  name: 'to-workspace'
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'StorageWrite', enabled: true }
      { category: 'StorageDelete', enabled: true }
    ]
  }
}

// Who put messages on the queue: a message itself carries no name.
resource dataQueueLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: dataQueues
  name: 'to-workspace'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'StorageWrite', enabled: true }]
  }
}

resource dataTableLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (auditTables) {
  scope: dataTables
  name: 'to-workspace'
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'StorageWrite', enabled: true }
      { category: 'StorageDelete', enabled: true }
    ]
  }
}
