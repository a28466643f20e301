DROP TABLE last_uses;
