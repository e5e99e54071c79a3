"""Devices, memory, streams, events, pinned memory, generators, gradients: two devices of 64 MiB."""

from __future__ import annotations

import torch
from inside import case, differs, main, raised

MIB = 1 << 20


@case
def two_devices() -> str | None:
    x, y = torch.ones(2, device="npu:0"), torch.ones(2, device="npu:1")
    with torch.npu.device(1):
        here = torch.zeros(1, device="npu").device.index
    return differs(
        (torch.npu.device_count(), (x + 1).device.index, (y + 1).device.index, here, x.to("npu:1").tolist()),
        (2, 0, 1, 1, [1.0, 1.0]),
    )


@case
def two_devices_in_a_call() -> str | None:
    return raised(
        lambda: torch.ones(2, device="npu:0") + torch.ones(2, device="npu:1"), "npu:0 and of npu:1 in one call"
    )


@case
def a_device_that_is_not_there() -> str | None:
    return raised(lambda: torch.ones(1, device="npu:2"), "107001")


@case
def a_tensor_of_the_host() -> str | None:
    return raised(lambda: torch.ones(2, device="npu") * torch.ones(2), "aten::mul", "torch.FloatTensor of the CPU")


@case
def a_number_of_the_host() -> str | None:
    return differs((torch.ones(2, device="npu") * torch.tensor(3.0)).tolist(), [3.0, 3.0])


@case
def out_of_memory() -> str | None:
    free, total = torch.npu.mem_get_info()
    wrong = raised(lambda: torch.empty(65 * MIB, dtype=torch.uint8, device="npu"), kind=torch.OutOfMemoryError)
    torch.empty(40 * MIB, dtype=torch.uint8, device="npu")  # there is room as before
    return wrong or differs((total, free > 50 * MIB), (64 * MIB, True))


@case
def memory_is_of_a_device() -> str | None:
    torch.npu.empty_cache()
    held = torch.empty(40 * MIB, dtype=torch.uint8, device="npu:0")
    free = torch.npu.mem_get_info(0)[0]
    other = torch.empty(40 * MIB, dtype=torch.uint8, device="npu:1")
    wrong = raised(lambda: torch.empty(40 * MIB, dtype=torch.uint8, device="npu:0"), kind=torch.OutOfMemoryError)
    del held, other
    torch.npu.empty_cache()
    return wrong or differs((free < 24 * MIB + 1, torch.npu.mem_get_info(0)[0] > 50 * MIB), (True, True))


@case
def streams_and_events() -> str | None:
    side, x = torch.npu.Stream(), torch.ones(3, device="npu")
    begin, end = torch.npu.Event(enable_timing=True), torch.npu.Event(enable_timing=True)
    begin.record()
    side.wait_stream(torch.npu.current_stream())
    with torch.npu.stream(side):
        y = x + 1
        end.record()
    torch.npu.current_stream().wait_stream(side)
    end.synchronize()
    torch.npu.synchronize()
    torch.accelerator.synchronize()
    return differs((y.tolist(), end.query(), begin.elapsed_time(end) >= 0), ([2.0] * 3, True, True))


@case
def pinned_memory() -> str | None:
    host = torch.arange(4.0).pin_memory()
    there = host.to("npu", non_blocking=True)
    back = torch.empty(4, pin_memory=True)
    back.copy_(there * 2, non_blocking=True)
    torch.npu.synchronize()
    pinned = (there + 1).to("cpu", non_blocking=True).is_pinned()
    return differs((host.is_pinned(), back.tolist(), pinned), (True, [0.0, 2.0, 4.0, 6.0], True))


@case
def a_generator_goes_on() -> str | None:
    generator = torch.Generator("npu").manual_seed(7)
    first = torch.rand(4, device="npu", generator=generator)
    state = generator.get_state()
    second = torch.rand(4, device="npu", generator=generator)
    generator.set_state(state)
    again = torch.rand(4, device="npu", generator=generator)
    return differs((torch.equal(first, second), torch.equal(second, again)), (False, True))


@case
def the_seed_of_a_device_is_its_own() -> str | None:
    torch.manual_seed(5)
    on_host = torch.rand(4)
    torch.manual_seed(5)
    torch.rand(4, device="npu")
    torch.nn.functional.dropout(torch.ones(4, device="npu"), 0.5)
    wrong = differs(torch.equal(torch.rand(4), on_host), True)  # the host's generator did not move
    state = torch.npu.get_rng_state()
    mask = torch.nn.functional.dropout(torch.ones(64, device="npu"), 0.5)
    torch.npu.set_rng_state(state)
    return wrong or differs(torch.equal(mask, torch.nn.functional.dropout(torch.ones(64, device="npu"), 0.5)), True)


@case
def written_in_place_and_through_views() -> str | None:
    def changed(device: str) -> list[list[float]]:
        x = torch.arange(32.0, device=device).view(4, 8).clone()
        x.add_(1)
        x[1:3].mul_(2)
        x.t()[0].fill_(1)
        x.permute(1, 0)[3].zero_()
        x.view(2, 16)[0].neg_()
        x.diagonal().fill_(4)
        left, right = x.chunk(2, -1)
        left[0].copy_(right[1])
        x.unbind(0)[3].fill_(8)
        x.transpose_(0, 1)
        x.mul_(2)
        rows: list[list[float]] = x.tolist()
        return rows

    return differs(changed("npu"), changed("cpu"))


@case
def results_that_are_given() -> str | None:
    a, w = torch.ones(2, 3, device="npu"), torch.ones(3, 4, device="npu")
    fits, grows = torch.empty(2, 4, device="npu"), torch.empty(0, device="npu")
    torch.mm(a, w, out=fits)
    torch.mm(a, w, out=grows)
    return differs((fits.tolist(), grows.tolist()), ([[3.0] * 4] * 2, [[3.0] * 4] * 2))


@case
def gradients() -> str | None:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.SiLU(), torch.nn.LayerNorm(8), torch.nn.Linear(8, 2))
    x = torch.randn(4, 8)

    def found(device: str) -> list[torch.Tensor]:
        there = model.to(device)
        there.zero_grad()
        there(x.to(device)).square().sum().backward()
        return [p.grad.cpu().clone() for p in there.parameters() if p.grad is not None]

    pairs = list(zip(found("cpu"), found("npu"), strict=True))
    return differs((len(pairs), all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)), (6, True))


@case
def an_operator_of_torch_npu() -> str | None:
    import torch_npu

    x, gamma = torch.arange(8.0, device="npu").view(1, 8), torch.ones(8, device="npu")
    expected = torch.nn.functional.rms_norm(x.cpu(), (8,), eps=1e-6)
    return differs(torch.allclose(torch_npu.npu_rms_norm(x, gamma)[0].cpu(), expected, atol=1e-6), True)


@case
def an_operator_without_a_kernel() -> str | None:
    q = torch.ones(1, 1, 4, 8, device="npu", dtype=torch.float16)
    return raised(
        lambda: torch.ops.npu.npu_prompt_flash_attention(q, q, q),
        "npu::npu_prompt_flash_attention",
        "ascend_overlay_kernels",
    )


@case
def a_tensor_that_grows_is_written_in_order() -> str | None:
    # Torch_npu copies what was there by a queue of its own, with a thread.
    wrong = 0
    for _ in range(300):
        grown = torch.full((100_000,), 3.0, device="npu")
        grown.resize_(100_001)
        wrong += grown.fill_(5.0).min().item() != 5
    return differs(wrong, 0)


@case
def results_in_memory_of_the_arguments_are_refused() -> str | None:
    x = torch.arange(6.0, device="npu")
    return raised(lambda: torch.cat([x[:2], x[2:4]], out=x[1:5]), "refer to a single memory location")


@case
def a_function_of_cann_that_is_not_there() -> str | None:
    import ctypes

    runtime = ctypes.CDLL("libascendcl.so")
    runtime.aclGetRecentErrMsg.restype = ctypes.c_char_p
    code = runtime.aclopCompileAndExecute()
    return differs((code, b"aclopCompileAndExecute" in runtime.aclGetRecentErrMsg()), (207000, True))


@case
def no_aclnn_function_is_there_that_does_nothing() -> str | None:
    import ctypes

    # Torch_npu asks for them by name, and says which one it did not find.
    operators = ctypes.CDLL("libopapi.so")
    found = [name for name in ("aclnnAdd", "aclnnAddGetWorkspaceSize", "aclCreateTensor") if hasattr(operators, name)]
    return differs(found, [])


main()
