-- Who may do what, beyond the tables' own grants.

-- New tables. The block list and an erasure's open work are the owner's alone.
GRANT SELECT, INSERT, UPDATE, DELETE ON report, report_clip TO slf_ingest, slf_researcher;
GRANT SELECT ON blocked TO slf_ingest;
REVOKE ALL ON erasure FROM slf_ingest, slf_researcher;
GRANT SELECT (id, at, actor, receipt, state) ON erasure TO slf_ingest, slf_researcher;

-- The audit log is added to and read; nobody but the owner changes it.
REVOKE UPDATE, DELETE ON audit_log FROM slf_ingest, slf_researcher;

-- Readers make nothing: neither temporary tables nor objects.
DO $$
BEGIN
    EXECUTE format('REVOKE TEMPORARY, CREATE ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO slf_ingest, slf_researcher', current_database());
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'not the owner of database and schema: have their owner revoke TEMPORARY and CREATE from PUBLIC';
END $$;

-- Functions with effects beyond the caller's statement. Only a superuser may take them from PUBLIC; where the owner is
-- none (an external server), a read-only transaction and the time limit are what is left.
DO $$
DECLARE wanted regprocedure;
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN RETURN; END IF;
    FOR wanted IN
        SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace
          AND (proname ~ '^(lo_|pg_advisory_|pg_try_advisory_)'
               OR proname IN ('set_config', 'pg_notify', 'pg_cancel_backend', 'pg_terminate_backend',
                              'pg_export_snapshot', 'pg_logical_emit_message', 'loread', 'lowrite'))
          AND proname NOT IN ('lo_import', 'lo_export')  -- never PUBLIC's
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION pg_catalog.%s FROM PUBLIC', wanted);
        EXECUTE format('GRANT EXECUTE ON FUNCTION pg_catalog.%s TO slf_ingest, slf_researcher', wanted);
    END LOOP;
END $$;
