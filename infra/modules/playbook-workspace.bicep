metadata name = 'Playbooks: the workspace'
metadata description = 'What the playbooks need in the workspace with Sentinel, which may be in another group or subscription.'

@description('Short name of the deployment.')
param name string

@description('Name of the workspace.')
param workspaceName string

@description('Whether the next one gets Microsoft Sentinel Responder.')
param grantResponder bool

@description('Principal id of the identity that comments on incidents.')
param responderPrincipalId string

@description('Whether the next one gets Microsoft Sentinel Reader.')
param grantReader bool

@description('Principal id of the identity of the queue\'s playbook.')
param readerPrincipalId string

@description('Whether there is an automation rule.')
param automationRule bool

@description('Resource id of the playbook that it runs.')
param playbookId string

@description('Resource ids of the analytics rules whose incidents it takes; empty: all.')
param analyticsRuleIds string[]

@description('Place of the rule among the others.')
param automationRuleOrder int

var role = {
  responder: '3e150937-b8fe-4cfb-8069-0eaf05ecd056'
  reader: '8d289c81-5878-46d4-8554-54e1e3d8b5cb'
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' existing = {
  name: workspaceName
}

resource responding 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (grantResponder) {
  scope: workspace
  name: guid(workspace.id, responderPrincipalId, role.responder)
  properties: {
    principalId: responderPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.responder)
    description: 'The playbooks of the Defender Indicator Relay comment on incidents.'
  }
}

resource reading 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (grantReader) {
  scope: workspace
  name: guid(workspace.id, readerPrincipalId, role.reader)
  properties: {
    principalId: readerPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.reader)
    description: 'The queue\'s playbook of the Defender Indicator Relay subscribes to incidents.'
  }
}

resource rule 'Microsoft.SecurityInsights/automationRules@2025-09-01' = if (automationRule) {
  scope: workspace
  name: guid(workspace.id, 'playbooks of ${name}', 'automation rule')
  properties: {
    displayName: 'Defender Indicator Relay (${name}): entities of new incidents'
    order: automationRuleOrder
    triggeringLogic: {
      isEnabled: true
      triggersOn: 'Incidents'
      triggersWhen: 'Created'
      conditions: empty(analyticsRuleIds)
        ? []
        : [
            {
              conditionType: 'Property'
              conditionProperties: {
                propertyName: 'IncidentRelatedAnalyticRuleIds'
                operator: 'Contains'
                propertyValues: analyticsRuleIds
              }
            }
          ]
    }
    actions: [
      {
        order: 1
        actionType: 'RunPlaybook'
        actionConfiguration: { logicAppResourceId: playbookId, tenantId: tenant().tenantId }
      }
    ]
  }
}
