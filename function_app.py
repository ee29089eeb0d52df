"""The function app: builds it and registers the blueprints; nothing else."""

import azure.functions as func

from functions.capacity import bp as capacity
from functions.dead_letters import bp as dead_letters
from functions.health import bp as health
from functions.indicators import bp as indicators
from functions.openapi import bp as openapi
from functions.operations import bp as operations
from functions.other import bp as other
from functions.pause import bp as pause
from functions.publish import bp as publish
from functions.start import begin
from functions.submissions import bp as submissions
from functions.timers import bp as timers
from functions.undo import bp as undo

begin()

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
for blueprint in (
    publish,
    submissions,
    undo,
    dead_letters,
    indicators,
    capacity,
    operations,
    pause,
    health,
    timers,
    openapi,
    other,
):
    app.register_functions(blueprint)
