-- Portable between SQLite and PostgreSQL. Times are microseconds since 1970 in UTC. Text compares bytewise:
-- "binary" is built into SQLite, and on PostgreSQL it is made from "C" before this runs.

CREATE TABLE store_revision (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    revision BIGINT NOT NULL
);
INSERT INTO store_revision (id, revision) VALUES (1, 0);

CREATE TABLE objects (
    id TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    kind TEXT COLLATE "binary" NOT NULL,
    name TEXT COLLATE "binary" NOT NULL,
    spec TEXT NOT NULL,
    version BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (kind, name)
);

-- The revision at which each object was last written or deleted; it outlives the object.
CREATE TABLE object_changes (
    id TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    kind TEXT COLLATE "binary" NOT NULL,
    revision BIGINT NOT NULL
);
CREATE INDEX object_changes_by_revision ON object_changes (revision);
CREATE INDEX object_changes_by_kind ON object_changes (kind, revision);

CREATE TABLE encrypted_values (
    id TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    content TEXT NOT NULL
);

CREATE TABLE sessions (
    token TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    user_id TEXT COLLATE "binary" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    revoked BOOLEAN NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_revision ON sessions (revision);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE audit_events (
    id TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    kind TEXT COLLATE "binary" NOT NULL,
    llm TEXT COLLATE "binary",
    user_id TEXT COLLATE "binary",
    user_name TEXT COLLATE "binary",
    event TEXT NOT NULL
);
CREATE INDEX audit_events_by_at ON audit_events (at);
CREATE INDEX audit_events_by_kind ON audit_events (kind, id);
CREATE INDEX audit_events_by_llm ON audit_events (llm, id);
CREATE INDEX audit_events_by_user_id ON audit_events (user_id, id);
CREATE INDEX audit_events_by_user_name ON audit_events (user_name, id);
