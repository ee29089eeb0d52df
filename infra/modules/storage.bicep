metadata name = 'Storage account'
metadata description = 'One account with its queues, containers and tables. No keys: everybody comes with an identity of Entra ID.'

@description('Name of the account.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Redundancy.')
param redundancy string

@description('Queues.')
param queues string[] = []

@description('Containers.')
param containers string[] = []

@description('Tables.')
param tables string[] = []

@description('Whether the account is reached by private endpoints alone.')
param private bool

@description('Days for which a deleted blob or container can be brought back; 0 for not at all.')
param undeleteDays int = 0

@description('Rules by age of blobs: name, prefixes (container/), and the days after the last change until deletion or the cool tier; 0 for never.')
param lifecycle { name: string, prefixes: string[], deleteAfter: int, coolAfter: int }[] = []

@description('Whether the account is locked against deletion.')
param lock bool

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: redundancy }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    // Keys are secrets that open everything and name nobody.
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    isLocalUserEnabled: false
    isSftpEnabled: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: private ? 'Disabled' : 'Enabled'
    networkAcls: {
      // Without a network of its own neither the app nor the playbooks have an address that a rule could name.
      defaultAction: private ? 'Deny' : 'Allow'
      bypass: 'None'
    }
    encryption: {
      keySource: 'Microsoft.Storage'
      requireInfrastructureEncryption: true
      // Tables and queues are encrypted with a key of the account, as blobs are.
      services: {
        blob: { enabled: true, keyType: 'Account' }
        queue: { enabled: true, keyType: 'Account' }
        table: { enabled: true, keyType: 'Account' }
      }
    }
  }
}

resource blobService 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: account
  name: 'default'
  properties: {
    deleteRetentionPolicy: undeleteDays > 0 ? { enabled: true, days: undeleteDays } : { enabled: false }
    containerDeleteRetentionPolicy: undeleteDays > 0 ? { enabled: true, days: undeleteDays } : { enabled: false }
  }
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = [
  for one in containers: {
    parent: blobService
    name: one
    properties: { publicAccess: 'None' }
  }
]

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2024-01-01' = {
  parent: account
  name: 'default'
}

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' = [
  for one in queues: {
    parent: queueService
    name: one
  }
]

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2024-01-01' = {
  parent: account
  name: 'default'
}

resource table 'Microsoft.Storage/storageAccounts/tableServices/tables@2024-01-01' = [
  for one in tables: {
    parent: tableService
    name: one
  }
]

resource policy 'Microsoft.Storage/storageAccounts/managementPolicies@2024-01-01' = if (!empty(lifecycle)) {
  parent: account
  name: 'default'
  dependsOn: [blobService]
  properties: {
    policy: {
      rules: [
        for rule in lifecycle: {
          name: rule.name
          type: 'Lifecycle'
          enabled: true
          definition: {
            filters: { blobTypes: ['blockBlob'], prefixMatch: rule.prefixes }
            actions: {
              baseBlob: rule.deleteAfter > 0
                ? { delete: { daysAfterModificationGreaterThan: rule.deleteAfter } }
                : { tierToCool: { daysAfterModificationGreaterThan: rule.coolAfter } }
            }
          }
        }
      ]
    }
  }
}

resource guard 'Microsoft.Authorization/locks@2020-05-01' = if (lock) {
  scope: account
  name: 'keep'
  properties: {
    level: 'CanNotDelete'
    notes: 'Holds submissions, outcomes and dead letters, or what the app runs from. scripts/remove says how to lift it.'
  }
}

output name string = account.name
output id string = account.id
