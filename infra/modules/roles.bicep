metadata name = 'Role assignments'
metadata description = 'Who may do what with data, each as narrow as its use. docs/infrastructure.md has the same as a table, and a test holds the two together.'

@description('Principal id of the app\'s identity.')
param principalId string

@description('Account of the Functions host.')
param hostAccountName string

@description('Account with the queue, the parts and the ledger.')
param dataAccountName string

@description('Queues of the data account.')
param queues string[]

@description('Containers of the data account.')
param containers string[]

@description('The queue that senders put messages on.')
param senderQueue string

@description('Who may put messages on that queue, and nothing else.')
param senders { principalId: string, principalType: 'ServicePrincipal' | 'User' | 'Group' }[]

@description('Vault with the client secret; empty: none.')
param vaultName string

@description('Who may write the client secret.')
param secretOfficers { principalId: string, principalType: 'ServicePrincipal' | 'User' | 'Group' }[]

@description('Application Insights component.')
param insightsName string

// Built-in roles; their ids are the same in every cloud.
var role = {
  blobOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  blobContributor: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  tableContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
  queueContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  queueSender: 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a'
  secretsUser: '4633458b-17de-408a-b874-0445c86b69e6'
  secretsOfficer: 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
  metricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
}

resource hostAccount 'Microsoft.Storage/storageAccounts@2024-01-01' existing = {
  name: hostAccountName
}

resource dataAccount 'Microsoft.Storage/storageAccounts@2024-01-01' existing = {
  name: dataAccountName
}

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2024-01-01' existing = {
  parent: dataAccount
  name: 'default'
}

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' existing = [
  for one in queues: {
    parent: queueService
    name: one
  }
]

resource sendingQueue 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' existing = {
  parent: queueService
  name: senderQueue
}

resource blobService 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' existing = {
  parent: dataAccount
  name: 'default'
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' existing = [
  for one in containers: {
    parent: blobService
    name: one
  }
]

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' existing = if (!empty(vaultName)) {
  name: vaultName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

// --- What the Functions host needs: keys, leases, timers' locks, the package; nothing else lies in that account -------

resource hostBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: hostAccount
  name: guid(hostAccount.id, principalId, role.blobOwner)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.blobOwner)
    description: 'Keys, leases, locks of timers and the package of the app. The host lists containers, so the account it must be.'
  }
}

resource hostTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: hostAccount
  name: guid(hostAccount.id, principalId, role.tableContributor)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.tableContributor)
    description: 'Diagnostic events of the host, in tables that it makes and removes itself.'
  }
}

// --- What the app needs -----------------------------------------------------------------------------------------------

resource appQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (one, index) in queues: {
    scope: queue[index]
    name: guid(dataAccount.id, one, principalId, role.queueContributor)
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.queueContributor)
      description: 'Take, put off and delete messages, put pointers, tell the depth.'
    }
  }
]

resource appContainers 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (one, index) in containers: {
    scope: container[index]
    name: guid(dataAccount.id, one, principalId, role.blobContributor)
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.blobContributor)
      description: 'Write, read and delete the blobs of this container.'
    }
  }
]

// On the account, not on each table: the address of a transaction names no table, and nothing says that a role on one is
// enough for it. The account holds no tables but these.
resource appTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: dataAccount
  name: guid(dataAccount.id, principalId, role.tableContributor)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.tableContributor)
    description: 'Write, read and delete the rows of the ledger.'
  }
}

resource appSecret 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(vaultName)) {
  scope: vault
  name: guid(resourceGroup().id, vaultName, principalId, role.secretsUser)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.secretsUser)
    description: 'Read the client secret. The vault holds nothing else.'
  }
}

resource appMetrics 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: insights
  name: guid(insights.id, principalId, role.metricsPublisher)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.metricsPublisher)
    description: 'Send metrics and logs; the component takes nothing without an identity.'
  }
}

// --- What others need -------------------------------------------------------------------------------------------------

resource sending 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for one in senders: {
    scope: sendingQueue
    name: guid(dataAccount.id, senderQueue, one.principalId, role.queueSender)
    properties: {
      principalId: one.principalId
      principalType: one.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.queueSender)
      description: 'Put messages on this queue; neither read nor delete any.'
    }
  }
]

resource writingSecret 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for one in secretOfficers: if (!empty(vaultName)) {
    scope: vault
    name: guid(resourceGroup().id, vaultName, one.principalId, role.secretsOfficer)
    properties: {
      principalId: one.principalId
      principalType: one.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.secretsOfficer)
      description: 'Write new versions of the client secret and disable old ones (scripts/secret).'
    }
  }
]
