GRANT UPDATE, DELETE ON audit_log TO slf_ingest;
REVOKE ALL (id, at, actor, receipt, state) ON erasure FROM slf_ingest, slf_researcher;
GRANT SELECT, INSERT, UPDATE, DELETE ON erasure TO slf_ingest;
GRANT SELECT ON erasure TO slf_researcher;

DO $$
DECLARE wanted regprocedure;
BEGIN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM slf_ingest, slf_researcher', current_database());
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO PUBLIC', current_database());
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN RETURN; END IF;
    FOR wanted IN
        SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace
          AND (proname ~ '^(lo_|pg_advisory_|pg_try_advisory_)'
               OR proname IN ('set_config', 'pg_notify', 'pg_cancel_backend', 'pg_terminate_backend',
                              'pg_export_snapshot', 'pg_logical_emit_message', 'loread', 'lowrite'))
          AND proname NOT IN ('lo_import', 'lo_export')  -- never PUBLIC's
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION pg_catalog.%s FROM slf_ingest, slf_researcher', wanted);
        EXECUTE format('GRANT EXECUTE ON FUNCTION pg_catalog.%s TO PUBLIC', wanted);
    END LOOP;
END $$;
