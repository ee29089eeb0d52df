"""Runs workflow definitions of Azure Logic Apps (Consumption) as they are deployed, against local services.

    run = Workflow(definition, parameters=..., world=World(...)).run(trigger_body)

It follows the documentation of the Workflow Definition Language and knows only what the project's own definitions
use: any other function, action type or property raises, so that no test passes because something was passed over.
Where the documentation is silent (how null compares, whether `if()` evaluates both branches) it takes the strict side:
definitions must not depend on it.
"""

from tests.support.logicapps.engine import Result, Run, Workflow, WorkflowError
from tests.support.logicapps.world import Clock, Connection, Fault, World

__all__ = ["Clock", "Connection", "Fault", "Result", "Run", "Workflow", "WorkflowError", "World"]
