using '../identity.bicep'

param name = 'relay'
param playbooks = true
param location = 'westeurope'
param tags = {
  product: 'defender-indicator-relay'
  stage: 'production'
}
