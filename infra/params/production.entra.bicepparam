using '../entra.bicep'

param name = 'relay'
param playbooks = true
param credential = 'federated'
param authMode = 'easy-auth'
// Object id of the group of those who operate the relay. scripts/verify, with which a deployment ends, takes both roles.
param apiAssignments = [
  { role: 'Submissions.Write', principalId: '55555555-5555-4555-8555-555555555555' }
  { role: 'Operations.Manage', principalId: '55555555-5555-4555-8555-555555555555' }
]
