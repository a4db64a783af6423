"""The schema: Alembic revisions whose statements are plain SQL files beside them."""
