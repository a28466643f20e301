-- When an object was last used. Beside the object, so that a use is no change: it makes no version and no revision.
CREATE TABLE last_uses (
    id TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    used_at BIGINT NOT NULL
);
