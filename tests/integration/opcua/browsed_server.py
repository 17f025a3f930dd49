"""A real OPC UA server with something of everything to browse. Prints its port when ready.

Objects/Boiler    Temperature (-40..200 °C), Setpoint (writable), Label, Tags (an array),
                  `Größe 1` and `Größe-1`, Broken (bad), Heat/Level, Cool/Level, Start (method)
Objects/Big       50,000 variables V0 to V49999
"""

from __future__ import annotations

import asyncio
import dataclasses

from asyncua import Node, Server, ua, uamethod

MANY = 50_000


async def boiler(server: Server, index: int) -> None:
    def node(name: str) -> ua.NodeId:
        return ua.NodeId(name, index)

    top = await server.nodes.objects.add_object(node("Boiler"), f"{index}:Boiler")
    temperature = await top.add_variable(node("Temperature"), f"{index}:Temperature", 71.5)
    await temperature.add_property(node("Range"), "0:EURange", ua.Range(-40.0, 200.0))
    unit = ua.EUInformation(
        NamespaceUri="http://www.opcfoundation.org/UA/units/un/cefact",
        UnitId=4408652,
        DisplayName=ua.LocalizedText("°C"),
    )
    await temperature.add_property(node("Unit"), "0:EngineeringUnits", unit)
    setpoint = await top.add_variable(node("Setpoint"), f"{index}:Setpoint", 3)
    await setpoint.set_writable()
    await top.add_variable(node("Label"), f"{index}:Label", "north")
    await top.add_variable(node("Tags"), f"{index}:Tags", [1, 2, 3])
    await top.add_variable(node("g1"), f"{index}:Größe 1", True)
    await top.add_variable(node("g2"), f"{index}:Größe+1", False)
    broken = await top.add_variable(node("Broken"), f"{index}:Broken", 1.0)
    await broken.write_value(
        ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadSensorFailure))
    )
    for part in ("Heat", "Cool"):
        loop = await top.add_object(node(part), f"{index}:{part}")
        await loop.add_variable(node(f"{part}.Level"), f"{index}:Level", 50.0)

    @uamethod
    def start(_parent: ua.NodeId) -> bool:
        return True

    await top.add_method(node("Start"), f"{index}:Start", start, [], [ua.VariantType.Boolean])


async def big(server: Server, index: int) -> None:
    """One node under many ids: they would take half a minute to make one by one."""
    folder: Node = await server.nodes.objects.add_folder(ua.NodeId("Big", index), f"{index}:Big")
    first = await folder.add_variable(ua.NodeId("V0", index), f"{index}:V0", 0.5)
    space = server.iserver.aspace
    references = space[folder.nodeid].references
    for number in range(1, MANY):
        node = ua.NodeId(f"V{number}", index)
        space[node] = space[first.nodeid]
        name = ua.QualifiedName(f"V{number}", index)
        references.append(dataclasses.replace(references[-1], NodeId=node, BrowseName=name))


async def serve() -> None:
    server = Server()
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace("urn:test:browsed")
    await boiler(server, index)
    await big(server, index)
    async with server:
        assert server.bserver is not None
        assert server.bserver._server is not None
        print(server.bserver._server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
