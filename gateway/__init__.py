"""The MathProtocol gateway: what needs more than one call of a model, or another wire form than the model's.

It stands beside the application, in front of the sidecar: chains of tasks, streams of numbered chunks over SSE and
WebSocket, and plugin tasks. What it asks a model goes through the sidecar like any other exchange, so that redaction,
enforcement and audit stay in one place. Read `app.py`, then `tasks.py`.
"""
