metadata name = 'Playbooks: the queue'
metadata description = 'The one right of the playbook that puts incidents on the queue. A file of its own, since its name is made of the principal: an identity that was made anew gets an assignment of its own.'

@description('Account that the queue is in.')
param storageAccountName string

@description('The queue.')
param queueName string

@description('Principal id of the playbook\'s identity.')
param principalId string

var sender = 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a'

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' existing = {
  name: storageAccountName
}

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2024-01-01' existing = {
  parent: account
  name: 'default'
}

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' existing = {
  parent: queueService
  name: queueName
}

resource sending 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: queue
  name: guid(queue.id, principalId, sender)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', sender)
    description: 'Put messages on this queue; neither read nor delete any.'
  }
}
