// Storage and vault by private endpoints alone, one address towards the internet. Callers still come from outside, by
// token and role: a playbook of the Consumption plan reaches HTTP, and not the queue.
using '../main.bicep'

param name = 'relaypriv'
param credential = 'secret'
// Both from the second step.
param relayClientId = '66666666-6666-4666-8666-666666666666'
param authMode = 'easy-auth'
param apiClientId = '77777777-7777-4777-8777-777777777777'
param privateNetworking = true
param vnetAddressPrefix = '10.90.0.0/24'
param natGateway = true
// Where the operator is who writes the client secret.
param vaultAllowedAddresses = ['203.0.113.10/32']
param secretOfficers = [
  { principalId: '88888888-8888-4888-8888-888888888888', principalType: 'User' }
]
param alwaysReadyHttp = 1
param alwaysReadyPublisher = 1
param storageRedundancy = 'Standard_ZRS'
param lock = true
param auditTables = true
param actionGroupEmails = ['soc@contoso.example']
param tags = {
  product: 'defender-indicator-relay'
  stage: 'private'
}
