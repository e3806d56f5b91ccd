"""Rules of what happens to devices and servers: lines, log-ins, restarts, time."""

from __future__ import annotations

import asyncio
import secrets

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.model.view import View
from tests.model.world import INDEX, NAMES, World


class LineRules(World):
    """Sockets are cut and come back."""

    @rule(device=INDEX)
    def cut(self, device: int) -> None:
        self.run(self.device(device).cut())

    @rule(device=INDEX)
    def connect(self, device: int) -> None:
        """It resumes, and reads its snapshot while others write."""

        async def connect() -> None:
            chosen = self.device(device)
            await chosen.connect()
            await chosen.load()

        self.run(connect())

    @rule(device=INDEX)
    def forget(self, device: int) -> None:
        """A device that has lost its data: all comes from a snapshot."""

        async def forget() -> None:
            chosen = self.device(device)
            user = self.owner_of(chosen)
            await self.all_told(user)
            await chosen.cut()
            view = View(user.user, excused=self.model.refused)
            chosen.cursor, chosen.view = None, view
            await chosen.load()

        self.run(forget())

    @rule(ms=st.integers(1, 300))
    def wait(self, ms: int) -> None:
        self.run(asyncio.sleep(ms / 1_000))


class LogInRules(World):
    """Devices come and go."""

    @rule(user=INDEX, name=st.sampled_from(NAMES))
    def log_in(self, user: int, name: str) -> None:
        """On a new device, or again on one: the older log-in ends."""

        async def log_in() -> None:
            chosen = self.user(user)
            await self.all_told(chosen)
            await self.add_device(chosen, name)

        self.run(log_in())

    @rule(device=INDEX, by_another=st.booleans())
    def log_out(self, device: int, by_another: bool) -> None:
        """Itself, or removed by another device; the last one stays."""

        async def log_out() -> None:
            chosen = self.device(device)
            user = self.owner_of(chosen)
            others = [each for each in user.devices if each is not chosen]
            if not others:
                return
            await self.all_told(user)
            if by_another:
                await others[0].call("DELETE", f"/v1/devices/{chosen.name}")
            else:
                await chosen.call("DELETE", "/v1/sessions/current")
            user.devices.remove(chosen)
            await chosen.must_end(4403)
            await chosen.cut()

        self.run(log_out())

    @rule(device=INDEX)
    def refresh(self, device: int) -> None:
        self.run(self.device(device).refresh())

    @rule(device=INDEX)
    def change_password(self, device: int) -> None:
        """All other log-ins end; the device goes on with new tokens."""

        async def change() -> None:
            chosen = self.device(device)
            user = self.owner_of(chosen)
            await self.all_told(user)
            new = f"{secrets.token_hex(8)}"
            body = {"password": user.password, "new_password": new}
            chosen.tokens |= await chosen.call("PUT", "/v1/me/password", json=body)
            user.password = new
            for other in [each for each in user.devices if each is not chosen]:
                user.devices.remove(other)
                await other.must_end(4403)
                await other.cut()
            await chosen.must_end(4004)
            await chosen.connect()

        self.run(change())


class RestartRules(World):
    """Servers end and come back."""

    @rule()
    def restart_gateway(self) -> None:
        self.run(self.product.restart_gateway())

    @rule(group=INDEX)
    def crash_function(self, group: int) -> None:
        """In the middle of whatever it does."""
        groups = self.product.groups
        self.run(self.product.crash_function(groups[group % len(groups)]))

    @rule()
    def restart_functions(self) -> None:
        """All of them: what they remembered is gone."""
        self.run(self.product.restart_functions())
