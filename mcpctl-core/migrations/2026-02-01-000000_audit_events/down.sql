DROP INDEX audit_events_but_calls;
CREATE INDEX audit_events_by_at ON audit_events (at);
CREATE INDEX audit_events_by_kind ON audit_events (kind, id);
CREATE INDEX audit_events_by_llm ON audit_events (llm, id);
CREATE INDEX audit_events_by_user_id ON audit_events (user_id, id);
CREATE INDEX audit_events_by_user_name ON audit_events (user_name, id);
