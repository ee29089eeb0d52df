metadata name = 'Alerts'
metadata description = 'Rules over what the app tells each minute (the platform\'s own figure for the length of a queue is a day old). Each says in its text what to do.'

@description('Short name of the deployment.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Workspace with the metrics.')
param workspaceId string

@description('Function app, whose name the metrics carry.')
param appName string

@description('Addresses to mail to.')
param emails string[]

@description('An action group that exists; empty: none.')
param actionGroupId string

@description('Minutes from which on the oldest waiting indicator is looked at.')
param oldestPendingMinutes int

@description('Most instances of the app.')
param maximumInstanceCount int

@description('Whether the app uses a client secret, whose days are then watched.')
param withSecret bool

resource group 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(emails)) {
  name: 'ag-${name}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: name
    enabled: true
    emailReceivers: [
      for (email, index) in emails: {
        name: 'mail-${index}'
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
  }
}

var groups = concat(
  empty(actionGroupId) ? [] : [actionGroupId],
  empty(emails) ? [] : [group.id]
)

// Metrics come some minutes late: windows are three times as long as the rounds, so that none is overlooked.
var often = { every: 'PT5M', window: 'PT15M' }
var halfHour = { every: 'PT5M', window: 'PT30M' }
var hourly = { every: 'PT1H', window: 'PT2H' }

var happenings = [
  {
    key: 'dead-letter'
    title: 'Dead letter arrived'
    severity: 2
    pace: often
    query: loadTextContent('../kql/alert-dead-letter.kql')
    column: 'Items'
    aggregation: 'Total'
    operator: 'GreaterThan'
    threshold: 0
    dimension: ''
    text: 'Something could not be read, was given up after seven days, or killed its workers. It is kept. Do: GET /api/dead-letters tells which and why; mend the cause; replay it, or discard it with a reason.'
  }
  {
    key: 'oldest-pending'
    title: 'Oldest waiting indicator grows older'
    severity: 2
    pace: halfHour
    query: loadTextContent('../kql/alert-oldest-pending.kql')
    column: 'Minutes'
    aggregation: 'Maximum'
    operator: 'GreaterThanOrEqual'
    threshold: oldestPendingMinutes
    dimension: ''
    text: 'Indicators wait and nobody has paused the calls. Do: GET /api/operations says what they wait for (a hold, failures, more than the budget of calls takes); GET /api/health says whether Defender, the token and storage answer.'
  }
  {
    key: 'heartbeat'
    title: 'Heartbeat gone'
    severity: 1
    pace: often
    query: loadTextContent('../kql/alert-heartbeat.kql')
    column: ''
    aggregation: 'Count'
    operator: 'LessThan'
    threshold: 1
    dimension: ''
    text: 'For a quarter of an hour no timer has run, or no metrics arrive. Do: look whether the app runs (GET /api/health, the log stream, FunctionAppLogs); whether the workspace has reached its daily cap; whether the identity still has its roles. Nothing is lost meanwhile: messages stay on the queue.'
  }
  {
    key: 'standing'
    title: 'Calls stand still: pause or hold'
    severity: 3
    pace: halfHour
    query: loadTextContent('../kql/alert-standing.kql')
    column: 'Minutes'
    aggregation: 'Maximum'
    operator: 'GreaterThanOrEqual'
    threshold: 25
    dimension: 'What'
    text: 'For half an hour the app has sent nothing. Do: GET /api/operations says who paused and why, or that a 429 of Defender holds the calls. A pause: POST /api/resume when its reason is gone. A hold passes by itself; if it comes back, see who else uses the quota of the API in this tenant.'
  }
  {
    key: 'refused'
    title: 'Token refused or role missing'
    severity: 1
    pace: often
    query: loadTextContent('../kql/alert-refused.kql')
    column: 'Alarms'
    aggregation: 'Total'
    operator: 'GreaterThan'
    threshold: 0
    dimension: 'Kind'
    text: 'The app has no token, or Defender does not take it; every indicator is put off. Do: GET /api/health names the cause and the remedy: an expired secret, a role that is not granted or not consented to, a wrong cloud. docs/identity.md explains the codes. What was put off goes on by itself.'
  }
  {
    key: 'service'
    title: 'Defender refuses everything'
    severity: 1
    pace: halfHour
    query: loadTextContent('../kql/alert-service.kql')
    column: 'Refused'
    aggregation: 'Maximum'
    operator: 'GreaterThanOrEqual'
    threshold: 3
    dimension: ''
    text: 'For half an hour no import call was taken. Nothing is rejected, everything is put off. Do: look at the answers in the workbook and in the log (events call_failed, batch_refused) and at the service health of Microsoft 365 Defender. If bodies are refused as a whole, send one indicator that is certainly good: the search ends by itself.'
  }
  {
    key: 'instances'
    title: 'Instances at their maximum'
    severity: 3
    pace: often
    query: loadTextContent('../kql/alert-instances.kql')
    column: 'Instances'
    aggregation: 'Minimum'
    operator: 'GreaterThanOrEqual'
    threshold: maximumInstanceCount
    dimension: ''
    text: 'The app runs on as many instances as it may, and they cost money. Do: GET /api/operations shows the depth of the queue and the workers. A flood of messages: find the sender in StorageQueueLogs. More instances do not publish faster, since all share one budget of calls; raise maximumInstanceCount only if HTTP callers wait.'
  }
  {
    key: 'alarm'
    title: 'Alarm of the app'
    severity: 2
    pace: often
    query: loadTextContent('../kql/alert-alarm.kql')
    column: 'Alarms'
    aggregation: 'Total'
    operator: 'GreaterThan'
    threshold: 0
    dimension: 'Kind'
    text: 'The app asks for a person\'s look. Do: docs/operate.md, under Alarms, has this kind with its meaning and what to do; the log line with event alarm has the detail.'
  }
]

var capacities = [
  for (one, index) in [[80, 3], [90, 2], [95, 1]]: {
    key: 'capacity-${one[0]}'
    title: 'Tenant ${one[0]} % full'
    severity: one[1]
    pace: hourly
    query: loadTextContent('../kql/alert-capacity.kql')
    column: 'Percent'
    aggregation: 'Maximum'
    operator: 'GreaterThanOrEqual'
    threshold: one[0]
    dimension: ''
    text: 'Defender takes 15,000 indicators of a tenant; what is beyond that is put off. Do: GET /api/capacity tells whose they are, of which types and what expires soon; delete what is no longer needed, shorten expirations (RELAY_EXPIRY_DAYS_*), or ask the owners of the others. With Ti.ReadWrite the app sees its own only, and the tenant is fuller than this says.'
  }
]

var secrets = [
  for (one, index) in [[30, 3], [14, 2], [7, 1], [1, 0]]: {
    key: 'secret-${one[0]}'
    title: 'Client secret expires within ${one[0]} ${one[0] == 1 ? 'day' : 'days'}'
    severity: one[1]
    pace: hourly
    query: loadTextContent('../kql/alert-secret.kql')
    column: 'Days'
    aggregation: 'Minimum'
    operator: 'LessThanOrEqual'
    threshold: one[0]
    dimension: ''
    text: 'Without a valid secret nothing is published. Do: run scripts/secret, which makes a new one, writes it into the vault, sees that the app gets a token with it and removes the old one. Nothing is restarted.'
  }
]

var rules = concat(happenings, capacities, withSecret ? secrets : [])

resource rule 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for one in rules: {
    name: 'alert-${name}-${one.key}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: '${one.title} (${appName})'
      description: one.text
      severity: one.severity
      enabled: true
      scopes: [workspaceId]
      evaluationFrequency: one.pace.every
      windowSize: one.pace.window
      // A fresh workspace has no metrics yet, and a rule over them would be refused.
      skipQueryValidation: true
      autoMitigate: true
      criteria: {
        allOf: [
          {
            query: replace(one.query, '{app}', appName)
            timeAggregation: one.aggregation
            metricMeasureColumn: empty(one.column) ? null : one.column
            operator: one.operator
            threshold: one.threshold
            dimensions: empty(one.dimension) ? [] : [{ name: one.dimension, operator: 'Include', values: ['*'] }]
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      actions: {
        actionGroups: groups
        customProperties: { app: appName, manual: 'docs/operate.md, Alert rules, ${one.key}' }
      }
    }
  }
]

output ruleNames string[] = [for one in rules: 'alert-${name}-${one.key}']
