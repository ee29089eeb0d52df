// A trial: everything at its cheapest, keys instead of tokens for callers, a client secret in the vault.
using '../main.bicep'

param name = 'relaydev'
param credential = 'secret'
// From the second step.
param relayClientId = '11111111-1111-4111-8111-111111111111'
param authMode = 'keys'
param retentionDays = 30
param dailyCapGb = 1
// Not tried by anyone at night.
param actionGroupEmails = []
param tags = {
  product: 'defender-indicator-relay'
  stage: 'dev'
}
