// One tenant for real: no secret at all, callers by token and role, instances kept ready, three zones, locks.
using '../main.bicep'

param name = 'relay'
param credential = 'federated'
// Both from the second step.
param relayClientId = '22222222-2222-4222-8222-222222222222'
param authMode = 'easy-auth'
param apiClientId = '33333333-3333-4333-8333-333333333333'
// A playbook waits for its first answer, and an indicator in an incident for its turn: neither for a cold start.
param alwaysReadyHttp = 1
param alwaysReadyPublisher = 1
param storageRedundancy = 'Standard_ZRS'
param lock = true
// Object id of an application that puts messages on the queue.
param senders = [
  { principalId: '44444444-4444-4444-8444-444444444444', principalType: 'ServicePrincipal' }
]
// Sentinel's way: which incidents a playbook is run for is then chosen in Sentinel. Without Sentinel take these three away.
param deployPlaybooks = true
param sentinelWorkspaceId = '/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-siem/providers/Microsoft.OperationalInsights/workspaces/log-sentinel'
// Object id of "Azure Security Insights" in this tenant.
param securityInsightsPrincipalId = 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb'
param actionGroupEmails = ['soc@contoso.example']
param tags = {
  product: 'defender-indicator-relay'
  stage: 'production'
}
