metadata name = 'Key Vault'
metadata description = 'Holds one secret: the client secret of the app registration. Its value comes by scripts/secret and never by a template.'

@description('Name of the vault.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Whether the app reaches the vault by a private endpoint.')
param private bool

@description('CIDRs that may reach a private vault from outside, such as that from which the secret is written. Empty: nobody.')
param allowedAddresses string[]

@description('Whether the vault is locked against deletion.')
param lock bool

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: subscription().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    // The longest: who deletes the vault by mistake or malice has not won for three months.
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
    enabledForDeployment: false
    enabledForDiskEncryption: false
    enabledForTemplateDeployment: false
    publicNetworkAccess: private && empty(allowedAddresses) ? 'Disabled' : 'Enabled'
    networkAcls: {
      // The plan has no outbound addresses of its own, so without a network there is nothing that a rule could name.
      defaultAction: private ? 'Deny' : 'Allow'
      bypass: 'None'
      ipRules: [for address in allowedAddresses: { value: address }]
      virtualNetworkRules: []
    }
  }
}

resource guard 'Microsoft.Authorization/locks@2020-05-01' = if (lock) {
  scope: vault
  name: 'keep'
  properties: {
    level: 'CanNotDelete'
    notes: 'Holds the client secret of the app. scripts/remove says how to lift it.'
  }
}

output name string = vault.name
output id string = vault.id
