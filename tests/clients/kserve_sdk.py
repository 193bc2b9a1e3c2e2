"""The KServe SDK's client for REST against the host at ADDRESS.

    python kserve_sdk.py ADDRESS
"""

import asyncio
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

VALUES = np.array([1.5, -2.0, 3.0], dtype=np.float32)


async def run(base):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(base) and await client.is_server_ready(base)
    assert await client.is_model_ready(base, "labelled")
    for binary in (True, False):
        given = InferInput("x", [3], "FP32")
        given.set_data_from_numpy(VALUES, binary_data=binary)
        answer = await client.infer(base, InferRequest("labelled", [given]), model_name="labelled")
        outputs = {output.name: output for output in answer.outputs}
        np.testing.assert_array_equal(outputs["y"].as_numpy(), 2 * VALUES)


asyncio.run(run(f"http://{sys.argv[1]}"))
