using '../identity.bicep'

param name = 'relaypriv'
param location = 'westeurope'
param tags = {
  product: 'defender-indicator-relay'
  stage: 'private'
}
