"""Names of servers in the routes."""

from dpsr.serving.fleet.proxy.addresses import resolved
from dpsr.serving.fleet.state import Address, Endpoint, Routes


def test_a_name_becomes_an_address_and_an_unknown_one_costs_its_server_alone() -> None:
    servers = {
        "named": Address(grpc="localhost:8500", rest="localhost:8501"),
        "literal": Address(grpc="127.0.0.7:8500"),
        "six": Address(grpc="[::1]:8500"),
        "gone": Address(grpc="no-such-host.invalid:8500"),
    }
    ends = tuple(Endpoint(server=name) for name in servers)
    routes, unknown = resolved(Routes(generation=3, servers=servers, models={"m": ends}))
    assert routes.servers["named"].grpc in ("127.0.0.1:8500", "[::1]:8500")
    assert routes.servers["literal"].grpc == "127.0.0.7:8500"
    assert routes.servers["six"].grpc == "[::1]:8500"
    assert [end.server for end in routes.models["m"]] == ["named", "literal", "six"]
    assert routes.generation == 3
    assert list(unknown) == ["gone"]
    assert "no-such-host.invalid:8500" in unknown["gone"]
