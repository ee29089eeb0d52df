using '../identity.bicep'

param name = 'relaygov'
param location = 'usgovvirginia'
param tags = {
  product: 'defender-indicator-relay'
  stage: 'gcc-high'
}
