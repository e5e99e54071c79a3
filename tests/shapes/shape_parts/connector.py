from __future__ import annotations

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1


class Connector(KVConnectorBase_V1):
    pass


def connector_class() -> type[Connector]:
    """Return the class, as the registry of connectors wants it: by a call."""
    return Connector
