"""Run by a bare interpreter (`python -I -S -B packaged.py UNPACKED ROOT`): the app from its zip, and nothing else.

`-I -S` leave only the standard library on the path: no environment, no site-packages. The worker's library and the app
then come from the zip; from this project only the two files that call them (local/host/runtime.py, protos.py), by name.
Prints one JSON object.
"""

import asyncio
import importlib.util
import json
import sys
import types
from pathlib import Path

UNPACKED, ROOT = Path(sys.argv[1]), Path(sys.argv[2])
SITE = UNPACKED / ".python_packages" / "lib" / "site-packages"
STANDARD = [Path(place) for place in sys.path]


def borrow(name: str) -> types.ModuleType:
    """A module of local/host, without making anything else of the project importable."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"{name.replace('.', '/')}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


async def main() -> dict[str, object]:
    """Index the app, ask for its health, tell where everything came from."""
    protos, runtime = borrow("local.host.protos"), borrow("local.host.runtime")
    functions = await runtime.load(UNPACKED)
    health = functions["GetHealth"]
    request = protos.TypedData(
        http=types.SimpleNamespace(
            method="GET",
            url="http://127.0.0.1/api/health",
            headers={"host": "127.0.0.1"},
            body=protos.TypedData(bytes=b""),
            params={},
            query={},
        )
    )
    answered = (await runtime.invoke(health, {health.trigger["name"]: request}, {})).return_value.http
    import azure.functions

    strangers = sorted(
        f"{name}: {file}"
        for name, module in list(sys.modules.items())
        if (file := getattr(module, "__file__", None))
        and not name.startswith(("__main__", "local.host."))
        and not any(Path(file).is_relative_to(place) for place in (*STANDARD, UNPACKED))
    )
    return {
        "library": azure.functions.__file__,
        "runtime": sys.modules["azure_functions_runtime"].__file__,
        "strangers": strangers,
        "functions": {name: function.kind for name, function in functions.items()},
        "status": str(getattr(answered.status_code, "string", answered.status_code)),
        "health": json.loads(answered.body.bytes),
        "binaries": sorted(
            name
            for name, module in sys.modules.items()
            if str(getattr(module, "__file__", "")).endswith(".so") and Path(module.__file__).is_relative_to(SITE)
        ),
    }


sys.path[:0] = [str(SITE)]
print(json.dumps(asyncio.run(main())))
