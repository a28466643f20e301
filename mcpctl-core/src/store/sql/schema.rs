//! The tables, as the migrations make them.

diesel::table! {
    store_revision (id) {
        id -> Integer,
        revision -> BigInt,
    }
}

diesel::table! {
    objects (id) {
        id -> Text,
        kind -> Text,
        name -> Text,
        spec -> Text,
        version -> BigInt,
        revision -> BigInt,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    object_changes (id) {
        id -> Text,
        kind -> Text,
        revision -> BigInt,
    }
}

diesel::table! {
    encrypted_values (id) {
        id -> Text,
        content -> Text,
    }
}

diesel::table! {
    sessions (token) {
        token -> Text,
        user_id -> Text,
        created_at -> BigInt,
        expires_at -> BigInt,
        revision -> BigInt,
        revoked -> Bool,
    }
}

diesel::table! {
    last_uses (id) {
        id -> Text,
        used_at -> BigInt,
    }
}

diesel::table! {
    audit_events (id) {
        id -> Text,
        at -> BigInt,
        kind -> Text,
        llm -> Nullable<Text>,
        user_id -> Nullable<Text>,
        user_name -> Nullable<Text>,
        event -> Text,
    }
}

diesel::allow_tables_to_appear_in_same_query!(objects, object_changes);
