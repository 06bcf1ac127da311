"""The audit trail: every exchange becomes a leaf in somebody's ledger, whatever happens on the way.

How an entry travels, who moves it, and what is lost if the process dies while it is there:

    queue in memory    <- append, on the data path        what is queued: some 50 ms of exchanges
    spool on disk      <- the flusher thread              nothing
    ledger             <- the shipper, over gRPC          nothing: the spool forgets a leaf once it is acknowledged

- `trail`: takes entries on the data path and runs the flusher, which alone owns the spool.
- `leaves`: entries become leaves and openings. Sequence numbers are given here, one after another.
- `statements`: what a leaf commits to, and the small form in which it is kept to be made again.
- `spool`: an SQLite file: leaves until they are durable, openings until they are deleted. One row of each a batch.
- `shipper`: sends leaves over gRPC and understands the acknowledgements.
- `openings`: what the command line may read of it; imports no gRPC.

Who counts: a *producer* is one spool file (16 random bytes, made with it). An *epoch* is one life of the process, or of
an agreement with a ledger: it begins with an EPOCH_START leaf at seq 0 and never continues the numbers of another, so
that no restart, lost spool or restored backup can give one number to two leaves. Leaves that a former epoch left in the
spool are sent under their old numbers first; the ledger recognises those it has. A ledger that contradicts our numbers
(it lost leaves that it had acknowledged, or it is another one) gets all that is unacknowledged under a new epoch.
"""
