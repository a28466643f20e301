DROP TABLE audit_events;
DROP TABLE sessions;
DROP TABLE encrypted_values;
DROP TABLE object_changes;
DROP TABLE objects;
DROP TABLE store_revision;
