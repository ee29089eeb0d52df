metadata name = 'Identities'
metadata description = 'The user-assigned identity of the app and, by choice, that of the playbooks. May be deployed by itself into a group that exists.'

@description('Short name of the deployment.')
@minLength(3)
@maxLength(11)
param name string = 'relay'

@description('Region.')
param location string = resourceGroup().location

@description('Whether the playbooks get an identity. It is not the app\'s: who may send is not who may publish.')
param playbooks bool = false

@description('Tags.')
param tags object = {}

// User-assigned: it is there before the app is, so that roles can be granted and have spread when the app starts, and
// it outlives an app that is made anew. A federated credential takes no other kind.
resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-${name}'
  location: location
  tags: tags
}

resource playbookIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = if (playbooks) {
  name: 'id-${name}-playbook'
  location: location
  tags: tags
}

output identityName string = identity.name
output identityId string = identity.id
output identityPrincipalId string = identity.properties.principalId
output identityClientId string = identity.properties.clientId
output playbookIdentityId string = playbooks ? playbookIdentity.id : ''
output playbookIdentityClientId string = playbooks ? playbookIdentity!.properties.clientId : ''
