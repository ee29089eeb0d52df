metadata name = 'Defender Indicator Relay: resource group and identity'
metadata description = 'First step. What the next two steps need to know exists after it: the group, and who the app will be.'

targetScope = 'subscription'

@description('Short name of this deployment; every other name is made from it. Lower-case letters and digits.')
@minLength(3)
@maxLength(11)
param name string = 'relay'

@description('Region of the resource group and of everything in it. Without a default: it decides where data lies.')
param location string

@description('Name of the resource group. One group for each deployment, so that removing it removes nothing else.')
param resourceGroupName string = 'rg-${name}'

@description('Whether playbooks are to be deployed. They get an identity of their own here, because the second step must be able to give it a role before the third makes the playbooks.')
param playbooks bool = false

@description('Tags of everything.')
param tags object = {}

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: resourceGroupName
  location: location
  tags: tags
}

module identity 'modules/identity.bicep' = {
  name: '${name}-identity'
  scope: group
  params: {
    name: name
    location: location
    playbooks: playbooks
    tags: tags
  }
}

output resourceGroupName string = group.name
output identityName string = identity.outputs.identityName
output identityId string = identity.outputs.identityId
output identityPrincipalId string = identity.outputs.identityPrincipalId
output identityClientId string = identity.outputs.identityClientId
output playbookIdentityId string = identity.outputs.playbookIdentityId
output playbookIdentityClientId string = identity.outputs.playbookIdentityClientId
