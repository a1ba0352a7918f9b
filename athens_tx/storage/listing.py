"""Which versions there are in an object store, as its listings show them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from athens_tx.errors import InvalidRequest, StorageUnavailable
from athens_tx.interfaces import IObjects, ObjectPage
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.keys import INFO, Group, Groups, Layout

#: Objects that a listing asks for at once.
PAGE = 1000
#: Pages without an object, one after the other, after which a listing is taken for one without an end.
_EMPTY_PAGES = 1000


class _Walk:
    """One walk through a listing, page by page; nobody is to walk in circles for ever."""

    def __init__(self, objects: IObjects, prefix: str, given: str | None = None) -> None:
        """@param given: a cursor that comes from a client, who is told where the store does not know it."""
        self._objects = objects
        self._prefix = prefix
        self._given = given
        self._empty = 0

    async def page(self, cursor: str, limit: int) -> ObjectPage:
        """@return: as L{IObjects.page}, a page that leads on from C{cursor}."""
        try:
            page = await self._objects.page(self._prefix, cursor, limit)
        except InvalidRequest as error:
            if cursor == self._given:
                raise
            raise StorageUnavailable(f"the store does not go on with its own listing: {error}") from error
        back = page.cursor == cursor or (self._objects.keyed and page.cursor.encode() < cursor.encode())
        self._empty = 0 if page.objects else self._empty + 1
        if page.cursor and (back or self._empty > _EMPTY_PAGES):
            raise StorageUnavailable("the listing of the store goes round in circles", retry_after=60)
        return page


class VersionListing:
    """Looks for versions among C{objects}, whose keys are those of C{layout}."""

    def __init__(self, objects: IObjects, layout: Layout) -> None:
        self._objects = objects
        self._layout = layout

    async def look(self, mv: ModuleVersion) -> Group:
        """@return: what is there of a version; one request, unless a thousand other names begin like its own."""
        group = Group(mv, self._layout.group(mv), {})
        places = {key: index for index, key in enumerate(self._layout.files(mv))}
        walk, cursor = _Walk(self._objects, group.prefix), ""
        while True:
            page = await walk.page(cursor, PAGE)
            group.files.update((places[found.key], found) for found in page.objects if found.key in places)
            if not page.cursor or len(group.files) == len(places):
                return group
            cursor = page.cursor

    async def groups(self, prefix: str) -> AsyncIterator[Group]:
        """@return: all that is below C{prefix}."""
        groups = Groups(self._layout)
        walk, cursor = _Walk(self._objects, prefix), ""
        while True:
            page = await walk.page(cursor, min(PAGE, self._objects.largest_page))
            for found in page.objects:
                groups.add(found)
            if not page.cursor:
                groups.end()
            for group in (*groups.take(), *groups.without_info()):
                yield group
            if not page.cursor:
                return
            cursor = page.cursor

    async def catalog(self, token: str, limit: int) -> tuple[Sequence[ModuleVersion], str]:
        """@return: see L{IStorage.catalog}, for the parameters too; in the order of the store's keys."""
        if self._objects.keyed:
            return await self._catalog_by_key(self._layout.cursor(token), limit)
        return await self._catalog_by_page(token, limit)

    async def _catalog_by_key(self, cursor: str, limit: int) -> tuple[Sequence[ModuleVersion], str]:
        """Go on behind any key: a token is the key of the last C{.info}."""
        groups, walk = Groups(self._layout, cursor), _Walk(self._objects, "")
        found: list[ModuleVersion] = []
        while True:
            # One more version than is wanted, behind two files of the last one, and what shows that it is at its end.
            size = 3 * (limit - len(found)) + 6
            page = await walk.page(cursor, min(self._objects.largest_page, size))
            for stored in page.objects:
                groups.add(stored)
            if not page.cursor:
                groups.end()
            for group in groups.take():
                if await self._is_whole(group):
                    if len(found) == limit:
                        return found, self._layout.token(found[-1])
                    found.append(group.mv)
            if not page.cursor:
                return found, ""
            cursor = page.cursor

    async def _catalog_by_page(self, token: str, limit: int) -> tuple[Sequence[ModuleVersion], str]:
        """Go on where a page of the store ended: a token is the store's own, so a page has what lies between two."""
        walk = _Walk(self._objects, "", token)
        most = min(self._objects.largest_page, 3 * limit)
        size = most
        while True:
            page = await walk.page(token, size)
            groups, infos = Groups(self._layout), []
            found: list[ModuleVersion] = []
            for index, stored in enumerate(page.objects):
                groups.add(stored)
                place = self._layout.place(stored.key)
                if place is not None and place[1] == INFO:
                    infos.append((place[0], index))
            groups.end(cut=bool(page.cursor))
            found += [group.mv for group in groups.take() if await self._is_whole(group)]
            if len(found) > limit:  # names that lie between the files of others: end the page before the first of them
                size = dict(infos)[found[limit]]
                continue
            if found or not page.cursor:
                return found, page.cursor
            token, size = page.cursor, most

    async def _is_whole(self, group: Group) -> bool:
        return group.complete or (group.uncertain and (await self.look(group.mv)).complete)
