"""What answers as Redis does, in this process."""

from typing import Any

import fakeredis


class Client(fakeredis.FakeRedis):
    def info(self, *args: Any, **kwargs: Any) -> dict[str, str]:
        return {"redis_version": "7.0.0"}  # django-cacheops asks for it, to choose its scripts.
