"""Which shards of a packed set belong to which rank."""

from collections.abc import Sequence

from data.objects import Objects


def own_objects(objects: Objects, *, rank: int, world: int) -> Sequence[int]:
    """The objects of the shards of a rank: those whose number modulo `world` is `rank`.

    Raises ValueError where one of them is not here, or where ranks would have different numbers of shards.
    """
    raw = objects.raw
    if raw.num_shards % world:
        raise ValueError(
            f"data.shards=rank: {raw.num_shards} shards cannot be dealt out evenly to {world} ranks; pack "
            "again with another --shards, or run on another number of ranks"
        )
    if missing := sorted(set(range(rank, raw.num_shards, world)) - set(raw.shards)):
        raise ValueError(
            f"data.shards=rank: rank {rank} of {world} needs shard {missing[0]} of {raw.num_shards}, which "
            "is not in data.root; copy it there"
        )
    own = [index for index in range(len(objects)) if raw.shard_of(index) % world == rank]
    if not own:
        raise ValueError(f"data.shards=rank: the shards of rank {rank} hold no objects; pack fewer shards")
    return own
