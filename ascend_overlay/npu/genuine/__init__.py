"""The genuine torch_npu as referee, also on a machine without CANN.

- source.py: where it comes from: installed, a wheel, or a release that pip downloads.
- stand_in.py: libraries that stand in for CANN's, so that torch_npu can be imported.
- process.py: a process of its own that has it imported, since it would stay in this one for good.
- meta.py: what runs there: the meta kernels of its operators.
- schemas.py: the schemas of any release, read from its libraries without importing it.
"""
