using '../identity.bicep'

param name = 'relaydev'
param location = 'westeurope'
param tags = {
  product: 'defender-indicator-relay'
  stage: 'dev'
}
