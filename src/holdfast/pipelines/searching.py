"""How an author lets a pipeline keep documents and search them."""

from __future__ import annotations

from typing import Unpack

from .halting import Halting
from .knowledge import Facts, IndexNode, SearchNode, Text
from .policy import PolicyOptions


class Searching(Halting):
    """A declaration some of whose nodes work on knowledge."""

    def index(
        self,
        name: str,
        *,
        collection: str,
        key: Text,
        text: Text,
        metadata: Facts | None = None,
        alias: str | None = None,
        version: str | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> IndexNode:
        """Declare a node that puts a document into a collection, in the place of an older one.

        The document is found by every search from the moment the node has run. A text that is
        there already is not embedded again. The result is a `Stored`.

        Args:
            name: of the node.
            collection: made with its first document.
            key: names the document in the collection: a Jinja2 template as of a model's prompt,
                or a function of the `State`.
            text: of the document, likewise.
            metadata: what filters look at: texts, numbers, truth values and lists of them.
            alias: of the embeddings, as the settings name it; by default that of the collection.
            version: recorded with its steps; the pipeline's by default.
            **policy: see `node`; each embedding call is recorded as an attempt.

        Raises:
            DeclarationError: a name or a template is wrong.
        """
        return self._add(
            IndexNode(
                name,
                collection=collection,
                key=key,
                text=text,
                metadata=metadata,
                alias=alias,
                pipeline=self.name,
                version=version or self.version,
                policy=policy,
            )
        )

    def search(
        self,
        name: str,
        *,
        collection: str,
        query: Text,
        mode: str = "hybrid",
        limit: int = 5,
        filters: Facts | None = None,
        min_score: float | None = None,
        version: str | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> SearchNode:
        """Declare a node that searches a collection.

        The result is a `Found`: its `hits`, the best first, and as `text` all of them in a form
        fit for a prompt: `{{ find.text }}`.

        Args:
            name: of the node.
            collection: where to search.
            query: a Jinja2 template as of a model's prompt, or a function of the `State`.
            mode: `semantic` (by embeddings), `keyword` (by words) or `hybrid` (both, ranks fused).
            limit: most hits, 1 to 100.
            filters: conditions on the documents' metadata: `{"lang": "de", "year": {"gte": 2020},
                "team": {"in": ["a", "b"]}}`, or a function of the `State` that gives them.
            min_score: least similarity (a cosine) of what embeddings find.
            version: recorded with its steps; the pipeline's by default.
            **policy: see `node`; each embedding call is recorded as an attempt.

        Raises:
            DeclarationError: a name, a template or an option is wrong.
        """
        return self._add(
            SearchNode(
                name,
                collection=collection,
                query=query,
                mode=mode,
                limit=limit,
                filters=filters,
                min_score=min_score,
                pipeline=self.name,
                version=version or self.version,
                policy=policy,
            )
        )
