--
-- PostgreSQL database dump
--


-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- Dumped by pg_dump version 15.20 (Debian 15.20-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: order_cancel_alerts; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.order_cancel_alerts (
    flow character varying(40) NOT NULL,
    event character varying(16) NOT NULL,
    key character varying(340) NOT NULL,
    target character varying(16) NOT NULL,
    at double precision NOT NULL
);


--
-- Name: order_cancel_bodies; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.order_cancel_bodies (
    id bigint NOT NULL,
    plan_id bigint NOT NULL,
    kind character varying(16) NOT NULL,
    content text NOT NULL,
    meta text NOT NULL,
    at double precision NOT NULL
);


--
-- Name: order_cancel_bodies_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.order_cancel_bodies_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: order_cancel_bodies_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.order_cancel_bodies_id_seq OWNED BY public.order_cancel_bodies.id;


--
-- Name: order_cancel_events; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.order_cancel_events (
    id bigint NOT NULL,
    plan_id bigint NOT NULL,
    run_id bigint,
    at double precision NOT NULL,
    step character varying(32) NOT NULL,
    what character varying(64) NOT NULL,
    detail text NOT NULL,
    milliseconds double precision
);


--
-- Name: order_cancel_events_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.order_cancel_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: order_cancel_events_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.order_cancel_events_id_seq OWNED BY public.order_cancel_events.id;


--
-- Name: order_cancel_members; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.order_cancel_members (
    id bigint NOT NULL,
    run_id bigint NOT NULL,
    plan_id bigint NOT NULL,
    "position" integer NOT NULL,
    lane character varying(8) NOT NULL,
    lot integer NOT NULL,
    listed boolean NOT NULL
);


--
-- Name: order_cancel_members_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.order_cancel_members_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: order_cancel_members_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.order_cancel_members_id_seq OWNED BY public.order_cancel_members.id;


--
-- Name: order_cancel_plans; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.order_cancel_plans (
    id bigint NOT NULL,
    host character varying(255) NOT NULL,
    flow character varying(40) NOT NULL,
    pk character varying(64) NOT NULL,
    generation integer NOT NULL,
    state character varying(16) NOT NULL,
    order_number character varying(255),
    order_pk character varying(64),
    amount character varying(64),
    currency character varying(16),
    plan_type character varying(64),
    plan_date character varying(64),
    digest character varying(64) NOT NULL,
    transaction_pk character varying(64),
    relation character varying(16),
    outcome character varying(16) NOT NULL,
    http_status integer,
    erp_reference character varying(255),
    error text,
    progress character varying(16) NOT NULL,
    body_number integer NOT NULL,
    key character varying(64),
    attributes text NOT NULL,
    post character varying(16) NOT NULL,
    attempts integer NOT NULL,
    next_attempt_at double precision NOT NULL,
    attempt_run bigint,
    snapshot character varying(64) NOT NULL,
    request_deadline double precision NOT NULL,
    created_run bigint,
    claim_run bigint,
    owner character varying(255) NOT NULL,
    lease_until double precision NOT NULL,
    fence integer NOT NULL,
    created_at double precision NOT NULL,
    updated_at double precision NOT NULL,
    pruned integer DEFAULT 0 NOT NULL
);


--
-- Name: order_cancel_plans_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.order_cancel_plans_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: order_cancel_plans_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.order_cancel_plans_id_seq OWNED BY public.order_cancel_plans.id;


--
-- Name: order_cancel_rests; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.order_cancel_rests (
    host character varying(255) NOT NULL,
    until double precision NOT NULL
);


--
-- Name: order_cancel_runs; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.order_cancel_runs (
    id bigint NOT NULL,
    flow character varying(40) NOT NULL,
    run_key character varying(255) NOT NULL,
    home character varying(64) NOT NULL,
    host character varying(255) NOT NULL,
    params text NOT NULL,
    snapshot character varying(64) NOT NULL,
    started_at double precision NOT NULL,
    committed boolean NOT NULL,
    counts text NOT NULL,
    queried_at double precision,
    finished_at double precision,
    alive_until double precision NOT NULL,
    next_turn_at double precision NOT NULL,
    succeeded_at double precision
);


--
-- Name: order_cancel_runs_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.order_cancel_runs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: order_cancel_runs_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.order_cancel_runs_id_seq OWNED BY public.order_cancel_runs.id;


--
-- Name: order_cancel_snapshots; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.order_cancel_snapshots (
    digest character varying(64) NOT NULL,
    flow character varying(40) NOT NULL,
    settings text NOT NULL,
    created_at double precision NOT NULL
);


--
-- Name: order_cancel_stops; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.order_cancel_stops (
    run_id bigint NOT NULL,
    reason text NOT NULL,
    at double precision NOT NULL,
    kind character varying(16) DEFAULT ''::character varying NOT NULL
);


--
-- Name: order_cancel_stops_run_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.order_cancel_stops_run_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: order_cancel_stops_run_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.order_cancel_stops_run_id_seq OWNED BY public.order_cancel_stops.run_id;


--
-- Name: order_cancel_tokens; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.order_cancel_tokens (
    key character varying(255) NOT NULL,
    version integer NOT NULL,
    secret bytea NOT NULL,
    fetching character varying(255) NOT NULL,
    fetching_until double precision NOT NULL
);


--
-- Name: order_cancel_transactions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.order_cancel_transactions (
    host character varying(255) NOT NULL,
    flow character varying(40) NOT NULL,
    pk character varying(64) NOT NULL,
    state character varying(16) NOT NULL,
    at double precision NOT NULL
);


--
-- Name: order_cancel_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.order_cancel_version (
    version_num character varying(32) NOT NULL
);


--
-- Name: order_cancel_bodies id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_bodies ALTER COLUMN id SET DEFAULT nextval('public.order_cancel_bodies_id_seq'::regclass);


--
-- Name: order_cancel_events id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_events ALTER COLUMN id SET DEFAULT nextval('public.order_cancel_events_id_seq'::regclass);


--
-- Name: order_cancel_members id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_members ALTER COLUMN id SET DEFAULT nextval('public.order_cancel_members_id_seq'::regclass);


--
-- Name: order_cancel_plans id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_plans ALTER COLUMN id SET DEFAULT nextval('public.order_cancel_plans_id_seq'::regclass);


--
-- Name: order_cancel_runs id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_runs ALTER COLUMN id SET DEFAULT nextval('public.order_cancel_runs_id_seq'::regclass);


--
-- Name: order_cancel_stops run_id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_stops ALTER COLUMN run_id SET DEFAULT nextval('public.order_cancel_stops_run_id_seq'::regclass);


--
-- Data for Name: order_cancel_alerts; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: order_cancel_bodies; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.order_cancel_bodies VALUES (1, 1, 'document', '{"pk": 1, "content": "first"}', '{}', 1796067824.526943);
INSERT INTO public.order_cancel_bodies VALUES (2, 2, 'document', '{"pk": 10, "content": "first"}', '{}', 1796067824.526943);
INSERT INTO public.order_cancel_bodies VALUES (3, 3, 'document', '{"pk": 11, "content": "first"}', '{}', 1796067824.526943);
INSERT INTO public.order_cancel_bodies VALUES (4, 4, 'document', '{"pk": 12, "content": "first"}', '{}', 1796067824.526943);
INSERT INTO public.order_cancel_bodies VALUES (5, 5, 'document', '{"pk": 13, "content": "first"}', '{}', 1796067824.526943);
INSERT INTO public.order_cancel_bodies VALUES (6, 6, 'document', '{"pk": 14, "content": "first"}', '{}', 1796067824.526943);
INSERT INTO public.order_cancel_bodies VALUES (7, 7, 'document', '{"pk": 15, "content": "first"}', '{}', 1796067824.526943);
INSERT INTO public.order_cancel_bodies VALUES (8, 8, 'document', '{"pk": 2, "content": "first"}', '{}', 1796067824.526943);
INSERT INTO public.order_cancel_bodies VALUES (9, 9, 'document', '{"pk": 3, "content": "first"}', '{}', 1796067824.526943);
INSERT INTO public.order_cancel_bodies VALUES (10, 10, 'document', '{"pk": 4, "content": "first"}', '{}', 1796067824.526943);
INSERT INTO public.order_cancel_bodies VALUES (11, 11, 'document', '{"pk": 5, "content": "first"}', '{}', 1796067824.526943);
INSERT INTO public.order_cancel_bodies VALUES (12, 12, 'document', '{"pk": 6, "content": "first"}', '{}', 1796067824.526943);
INSERT INTO public.order_cancel_bodies VALUES (13, 13, 'document', '{"pk": 7, "content": "first"}', '{}', 1796067824.526943);
INSERT INTO public.order_cancel_bodies VALUES (14, 14, 'document', '{"pk": 8, "content": "first"}', '{}', 1796067824.526943);
INSERT INTO public.order_cancel_bodies VALUES (15, 15, 'document', '{"pk": 9, "content": "first"}', '{}', 1796067824.526943);
INSERT INTO public.order_cancel_bodies VALUES (16, 3, 'request', '{"plan": 1}', '{"method": "POST", "url": "http://erp.example/x", "key": "754b6d8ca2e4af4dd17d1310e33086d58be8a347", "headers": {}}', 1796067824.565453);
INSERT INTO public.order_cancel_bodies VALUES (17, 4, 'request', '{"plan": 1}', '{"method": "POST", "url": "http://erp.example/x", "key": "bed8252bd29b6136cb2a8dfe04172ae1698f9d71", "headers": {}}', 1796067824.569864);
INSERT INTO public.order_cancel_bodies VALUES (18, 4, 'response', '{"documentNumber": "D1"}', '{"status": 201, "reason": "OK", "url": "http://erp.example/x"}', 1796067824.569864);
INSERT INTO public.order_cancel_bodies VALUES (19, 5, 'request', '{"plan": 1}', '{"method": "POST", "url": "http://erp.example/x", "key": "81b586722154fa0b53ca18159af6eff3ada4a5ad", "headers": {}}', 1796067824.574132);
INSERT INTO public.order_cancel_bodies VALUES (20, 5, 'response', '{"documentNumber": "D1"}', '{"status": 201, "reason": "OK", "url": "http://erp.example/x"}', 1796067824.574132);
INSERT INTO public.order_cancel_bodies VALUES (21, 6, 'request', '{"plan": 1}', '{"method": "POST", "url": "http://erp.example/x", "key": "5a9af029a27acc3f5903965d606334104c58160d", "headers": {}}', 1796067824.578415);
INSERT INTO public.order_cancel_bodies VALUES (22, 6, 'response', '{"documentNumber": "D1"}', '{"status": 201, "reason": "OK", "url": "http://erp.example/x"}', 1796067824.578415);
INSERT INTO public.order_cancel_bodies VALUES (23, 7, 'request', '{"plan": 1}', '{"method": "POST", "url": "http://erp.example/x", "key": "9255501943c6b63acfa2b0aa33ad4f10ac64ddd9", "headers": {}}', 1796067824.582841);
INSERT INTO public.order_cancel_bodies VALUES (24, 7, 'response', '{"documentNumber": "D1"}', '{"status": 422, "reason": "OK", "url": "http://erp.example/x"}', 1796067824.582841);
INSERT INTO public.order_cancel_bodies VALUES (25, 8, 'request', '{"plan": 1}', '{"method": "POST", "url": "http://erp.example/x", "key": "06ff2fd5b55c5c2b15311014dc78c2d40fc2cc70", "headers": {}}', 1796067824.586937);
INSERT INTO public.order_cancel_bodies VALUES (26, 8, 'response', '{"documentNumber": "D1"}', '{"status": 200, "reason": "OK", "url": "http://erp.example/x"}', 1796067824.586937);
INSERT INTO public.order_cancel_bodies VALUES (27, 11, 'request', '{"plan": 1}', '{"method": "POST", "url": "http://erp.example/x", "key": "4ee4dbbe648a1ed1e9b6616a044b0e569ca76eab", "headers": {}}', 1796067824.598232);
INSERT INTO public.order_cancel_bodies VALUES (28, 11, 'response', '{"documentNumber": "D1"}', '{"status": 200, "reason": "OK", "url": "http://erp.example/x"}', 1796067824.598232);
INSERT INTO public.order_cancel_bodies VALUES (29, 12, 'request', '{"plan": 1}', '{"method": "POST", "url": "http://erp.example/x", "key": "50760a7afefa5d280d521b0b7cf0c90ba8e12435", "headers": {}}', 1796067824.601994);
INSERT INTO public.order_cancel_bodies VALUES (30, 12, 'response', '{"documentNumber": "D1"}', '{"status": 422, "reason": "OK", "url": "http://erp.example/x"}', 1796067824.601994);
INSERT INTO public.order_cancel_bodies VALUES (31, 13, 'request', '{"plan": 1}', '{"method": "POST", "url": "http://erp.example/x", "key": "3f1e0fd1db1f57ccba237ab53fc33fee419c87bb", "headers": {}}', 1796067824.605805);
INSERT INTO public.order_cancel_bodies VALUES (32, 14, 'request', '{"plan": 1}', '{"method": "POST", "url": "http://erp.example/x", "key": "446db0eb44d4f96e687efa6bdd1415452f0db8d3", "headers": {}}', 1796067824.609654);
INSERT INTO public.order_cancel_bodies VALUES (33, 14, 'response', '{"documentNumber": "D1"}', '{"status": 422, "reason": "OK", "url": "http://erp.example/x"}', 1796067824.609654);
INSERT INTO public.order_cancel_bodies VALUES (34, 15, 'request', '{"plan": 1}', '{"method": "POST", "url": "http://erp.example/x", "key": "af896c48faa3fe99c23910bfefe5fac4bed10756", "headers": {}}', 1796067824.613352);
INSERT INTO public.order_cancel_bodies VALUES (35, 15, 'response', '{"documentNumber": "D1"}', '{"status": 201, "reason": "OK", "url": "http://erp.example/x"}', 1796067824.613352);
INSERT INTO public.order_cancel_bodies VALUES (36, 16, 'document', '{"pk": 14, "content": "first"}', '{}', 1796067824.617828);


--
-- Data for Name: order_cancel_events; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.order_cancel_events VALUES (1, 1, 1, 1796067824.526943, 'get_data_from_omnitron', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (2, 2, 1, 1796067824.526943, 'get_data_from_omnitron', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (3, 3, 1, 1796067824.526943, 'get_data_from_omnitron', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (4, 4, 1, 1796067824.526943, 'get_data_from_omnitron', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (5, 5, 1, 1796067824.526943, 'get_data_from_omnitron', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (6, 6, 1, 1796067824.526943, 'get_data_from_omnitron', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (7, 7, 1, 1796067824.526943, 'get_data_from_omnitron', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (8, 8, 1, 1796067824.526943, 'get_data_from_omnitron', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (9, 9, 1, 1796067824.526943, 'get_data_from_omnitron', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (10, 10, 1, 1796067824.526943, 'get_data_from_omnitron', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (11, 11, 1, 1796067824.526943, 'get_data_from_omnitron', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (12, 12, 1, 1796067824.526943, 'get_data_from_omnitron', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (13, 13, 1, 1796067824.526943, 'get_data_from_omnitron', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (14, 14, 1, 1796067824.526943, 'get_data_from_omnitron', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (15, 15, 1, 1796067824.526943, 'get_data_from_omnitron', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (16, 1, NULL, 1796067824.556171, 'plan', 'fetched', '', NULL);
INSERT INTO public.order_cancel_events VALUES (17, 2, NULL, 1796067824.561167, 'plan', 'prepared', '', NULL);
INSERT INTO public.order_cancel_events VALUES (18, 3, NULL, 1796067824.565453, 'plan', 'sending', '', NULL);
INSERT INTO public.order_cancel_events VALUES (19, 4, NULL, 1796067824.569864, 'plan', 'answered', '', NULL);
INSERT INTO public.order_cancel_events VALUES (20, 5, NULL, 1796067824.574132, 'plan', 'written_back', '', NULL);
INSERT INTO public.order_cancel_events VALUES (21, 6, NULL, 1796067824.578415, 'plan', 'done', '', NULL);
INSERT INTO public.order_cancel_events VALUES (22, 7, NULL, 1796067824.582841, 'plan', 'rejected', '', NULL);
INSERT INTO public.order_cancel_events VALUES (23, 8, NULL, 1796067824.586937, 'plan', 'passed', '', NULL);
INSERT INTO public.order_cancel_events VALUES (24, 9, NULL, 1796067824.590959, 'plan', 'left', '', NULL);
INSERT INTO public.order_cancel_events VALUES (25, 10, NULL, 1796067824.594572, 'plan', 'dismissed', '', NULL);
INSERT INTO public.order_cancel_events VALUES (26, 11, NULL, 1796067824.598232, 'plan', 'held', '', NULL);
INSERT INTO public.order_cancel_events VALUES (27, 12, NULL, 1796067824.601994, 'plan', 'failed', '', NULL);
INSERT INTO public.order_cancel_events VALUES (28, 13, NULL, 1796067824.605805, 'plan', 'in_doubt', '', NULL);
INSERT INTO public.order_cancel_events VALUES (29, 14, NULL, 1796067824.609654, 'plan', 'dead', '', NULL);
INSERT INTO public.order_cancel_events VALUES (30, 15, NULL, 1796067824.613352, 'plan', 'changed', '', NULL);
INSERT INTO public.order_cancel_events VALUES (31, 16, NULL, 1796067824.617828, 'resend', 'generation 2', 'a person: kept', NULL);


--
-- Data for Name: order_cancel_members; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.order_cancel_members VALUES (1, 1, 1, 0, 'plan', 0, true);
INSERT INTO public.order_cancel_members VALUES (2, 1, 8, 7, 'plan', 0, true);
INSERT INTO public.order_cancel_members VALUES (3, 1, 9, 8, 'plan', 0, true);
INSERT INTO public.order_cancel_members VALUES (4, 1, 10, 9, 'plan', 0, true);
INSERT INTO public.order_cancel_members VALUES (5, 1, 11, 10, 'plan', 0, true);
INSERT INTO public.order_cancel_members VALUES (6, 1, 12, 11, 'plan', 0, true);
INSERT INTO public.order_cancel_members VALUES (7, 1, 13, 12, 'plan', 0, true);
INSERT INTO public.order_cancel_members VALUES (8, 1, 14, 13, 'plan', 0, true);
INSERT INTO public.order_cancel_members VALUES (9, 1, 15, 14, 'plan', 0, true);
INSERT INTO public.order_cancel_members VALUES (10, 1, 2, 1, 'plan', 0, true);
INSERT INTO public.order_cancel_members VALUES (11, 1, 3, 2, 'plan', 0, true);
INSERT INTO public.order_cancel_members VALUES (12, 1, 4, 3, 'plan', 0, true);
INSERT INTO public.order_cancel_members VALUES (13, 1, 5, 4, 'plan', 0, true);
INSERT INTO public.order_cancel_members VALUES (14, 1, 6, 5, 'plan', 0, true);
INSERT INTO public.order_cancel_members VALUES (15, 1, 7, 6, 'plan', 0, true);


--
-- Data for Name: order_cancel_plans; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.order_cancel_plans VALUES (7, 'omnitron.example', 'cancels', '15', 1, 'rejected', 'N15', '915', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, 'failure', 'refused', 422, NULL, NULL, 'request', 1, '9255501943c6b63acfa2b0aa33ad4f10ac64ddd9', '{"channel_type": "web"}', '', 1, 0, NULL, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 0, 1, NULL, '', 0, 1, 1796067824.526943, 1796067824.582841, 0);
INSERT INTO public.order_cancel_plans VALUES (11, 'omnitron.example', 'cancels', '5', 1, 'held', 'N5', '95', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, 'do_nothing', 'accepted', 200, 'D1', NULL, 'request', 1, '4ee4dbbe648a1ed1e9b6616a044b0e569ca76eab', '{"channel_type": "web"}', '', 1, 0, NULL, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 0, 1, NULL, '', 0, 1, 1796067824.526943, 1796067824.598232, 0);
INSERT INTO public.order_cancel_plans VALUES (8, 'omnitron.example', 'cancels', '2', 1, 'passed', 'N2', '92', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, 'do_nothing', 'accepted', 200, 'D1', NULL, 'request', 1, '06ff2fd5b55c5c2b15311014dc78c2d40fc2cc70', '{"channel_type": "web"}', '', 1, 0, NULL, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 0, 1, NULL, '', 0, 1, 1796067824.526943, 1796067824.586937, 0);
INSERT INTO public.order_cancel_plans VALUES (12, 'omnitron.example', 'cancels', '6', 1, 'failed', 'N6', '96', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, NULL, 'refused', 422, NULL, 'the ERP refused it: 422', 'request', 1, '50760a7afefa5d280d521b0b7cf0c90ba8e12435', '{"channel_type": "web"}', '', 1, 0, NULL, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 0, 1, NULL, '', 0, 1, 1796067824.526943, 1796067824.601994, 0);
INSERT INTO public.order_cancel_plans VALUES (6, 'omnitron.example', 'cancels', '14', 1, 'done', 'N14', '914', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, 'continue', 'accepted', 201, 'D1', NULL, 'request', 1, '5a9af029a27acc3f5903965d606334104c58160d', '{"channel_type": "web"}', '', 1, 0, NULL, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 0, 1, NULL, '', 0, 2, 1796067824.526943, 1796067824.578415, 0);
INSERT INTO public.order_cancel_plans VALUES (9, 'omnitron.example', 'cancels', '3', 1, 'left', 'N3', '93', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, NULL, '', NULL, NULL, NULL, '', 1, NULL, '{"channel_type": "web"}', '', 1, 0, NULL, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 0, 1, NULL, '', 0, 1, 1796067824.526943, 1796067824.590959, 0);
INSERT INTO public.order_cancel_plans VALUES (1, 'omnitron.example', 'cancels', '1', 1, 'fetched', 'N1', '91', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, NULL, '', NULL, NULL, NULL, '', 1, NULL, '{"channel_type": "web"}', '', 1, 0, NULL, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 0, 1, NULL, '', 0, 1, 1796067824.526943, 1796067824.556171, 0);
INSERT INTO public.order_cancel_plans VALUES (2, 'omnitron.example', 'cancels', '10', 1, 'prepared', 'N10', '910', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, NULL, '', NULL, NULL, NULL, '', 1, NULL, '{"channel_type": "web"}', '', 1, 0, NULL, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 0, 1, NULL, '', 0, 1, 1796067824.526943, 1796067824.561167, 0);
INSERT INTO public.order_cancel_plans VALUES (10, 'omnitron.example', 'cancels', '4', 1, 'dismissed', 'N4', '94', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, NULL, '', NULL, NULL, NULL, '', 1, NULL, '{"channel_type": "web"}', '', 1, 0, NULL, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 0, 1, NULL, '', 0, 1, 1796067824.526943, 1796067824.594572, 0);
INSERT INTO public.order_cancel_plans VALUES (3, 'omnitron.example', 'cancels', '11', 1, 'sending', 'N11', '911', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, NULL, '', NULL, NULL, NULL, 'request', 1, '754b6d8ca2e4af4dd17d1310e33086d58be8a347', '{"channel_type": "web"}', '', 1, 0, NULL, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 0, 1, NULL, '', 0, 1, 1796067824.526943, 1796067824.565453, 0);
INSERT INTO public.order_cancel_plans VALUES (4, 'omnitron.example', 'cancels', '12', 1, 'answered', 'N12', '912', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, 'continue', 'accepted', 201, 'D1', NULL, 'request', 1, 'bed8252bd29b6136cb2a8dfe04172ae1698f9d71', '{"channel_type": "web"}', '', 1, 0, NULL, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 0, 1, NULL, '', 0, 1, 1796067824.526943, 1796067824.569864, 0);
INSERT INTO public.order_cancel_plans VALUES (5, 'omnitron.example', 'cancels', '13', 1, 'written_back', 'N13', '913', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, 'continue', 'accepted', 201, 'D1', NULL, 'request', 1, '81b586722154fa0b53ca18159af6eff3ada4a5ad', '{"channel_type": "web"}', '', 1, 0, NULL, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 0, 1, NULL, '', 0, 1, 1796067824.526943, 1796067824.574132, 0);
INSERT INTO public.order_cancel_plans VALUES (13, 'omnitron.example', 'cancels', '7', 1, 'in_doubt', 'N7', '97', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, NULL, 'unknown', NULL, NULL, 'it is not known whether the ERP took it: no answer', 'request', 1, '3f1e0fd1db1f57ccba237ab53fc33fee419c87bb', '{"channel_type": "web"}', '', 1, 0, NULL, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 0, 1, NULL, '', 0, 1, 1796067824.526943, 1796067824.605805, 0);
INSERT INTO public.order_cancel_plans VALUES (14, 'omnitron.example', 'cancels', '8', 1, 'dead', 'N8', '98', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, NULL, 'refused', 422, NULL, 'the ERP refused it: 422', 'request', 1, '446db0eb44d4f96e687efa6bdd1415452f0db8d3', '{"channel_type": "web"}', '', 1, 0, NULL, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 0, 1, NULL, '', 0, 1, 1796067824.526943, 1796067824.609654, 0);
INSERT INTO public.order_cancel_plans VALUES (15, 'omnitron.example', 'cancels', '9', 1, 'changed', 'N9', '99', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, 'continue', 'accepted', 201, 'D1', NULL, 'request', 1, 'af896c48faa3fe99c23910bfefe5fac4bed10756', '{"channel_type": "web"}', '', 1, 0, NULL, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 0, 1, NULL, '', 0, 1, 1796067824.526943, 1796067824.613352, 0);
INSERT INTO public.order_cancel_plans VALUES (16, 'omnitron.example', 'cancels', '14', 2, 'fetched', 'N14', '914', '12.50', 'TRY', 'cancel', '2025-03-01T08:00:00Z', 'a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e', NULL, NULL, '', NULL, NULL, NULL, '', 1, NULL, '{}', '', 0, 0, NULL, '', 0, NULL, NULL, '', 0, 0, 1796067824.617828, 1796067824.617828, 0);


--
-- Data for Name: order_cancel_rests; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: order_cancel_runs; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.order_cancel_runs VALUES (1, 'cancels', 'kept', 'home', 'omnitron.example', '{}', 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 1796067824.519941, true, '{"new": 15}', 1750000000, 1796067824.633611, 0, 0, NULL);


--
-- Data for Name: order_cancel_snapshots; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.order_cancel_snapshots VALUES ('dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 'cancels', '{"omnitron": {"channel_type": "web"}}', 1796067824.517749);


--
-- Data for Name: order_cancel_stops; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.order_cancel_stops VALUES (1, 'nothing more is sent', 1796067824.632035, '');


--
-- Data for Name: order_cancel_tokens; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.order_cancel_tokens VALUES ('omnitron', 1, '\x00736563726574', '', 0);


--
-- Data for Name: order_cancel_transactions; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.order_cancel_transactions VALUES ('omnitron.example', 'cancels', '900', 'mapped', 1796067824.625795);


--
-- Data for Name: order_cancel_version; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.order_cancel_version VALUES ('0004');


--
-- Name: order_cancel_bodies_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.order_cancel_bodies_id_seq', 36, true);


--
-- Name: order_cancel_events_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.order_cancel_events_id_seq', 31, true);


--
-- Name: order_cancel_members_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.order_cancel_members_id_seq', 15, true);


--
-- Name: order_cancel_plans_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.order_cancel_plans_id_seq', 16, true);


--
-- Name: order_cancel_runs_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.order_cancel_runs_id_seq', 1, true);


--
-- Name: order_cancel_stops_run_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.order_cancel_stops_run_id_seq', 1, false);


--
-- Name: order_cancel_alerts order_cancel_alerts_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_alerts
    ADD CONSTRAINT order_cancel_alerts_pkey PRIMARY KEY (flow, event, key, target);


--
-- Name: order_cancel_bodies order_cancel_bodies_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_bodies
    ADD CONSTRAINT order_cancel_bodies_pkey PRIMARY KEY (id);


--
-- Name: order_cancel_events order_cancel_events_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_events
    ADD CONSTRAINT order_cancel_events_pkey PRIMARY KEY (id);


--
-- Name: order_cancel_members order_cancel_members_once; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_members
    ADD CONSTRAINT order_cancel_members_once UNIQUE (run_id, plan_id);


--
-- Name: order_cancel_members order_cancel_members_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_members
    ADD CONSTRAINT order_cancel_members_pkey PRIMARY KEY (id);


--
-- Name: order_cancel_plans order_cancel_plans_once; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_plans
    ADD CONSTRAINT order_cancel_plans_once UNIQUE (host, flow, pk, generation);


--
-- Name: order_cancel_plans order_cancel_plans_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_plans
    ADD CONSTRAINT order_cancel_plans_pkey PRIMARY KEY (id);


--
-- Name: order_cancel_rests order_cancel_rests_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_rests
    ADD CONSTRAINT order_cancel_rests_pkey PRIMARY KEY (host);


--
-- Name: order_cancel_runs order_cancel_runs_once; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_runs
    ADD CONSTRAINT order_cancel_runs_once UNIQUE (flow, run_key, home);


--
-- Name: order_cancel_runs order_cancel_runs_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_runs
    ADD CONSTRAINT order_cancel_runs_pkey PRIMARY KEY (id);


--
-- Name: order_cancel_snapshots order_cancel_snapshots_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_snapshots
    ADD CONSTRAINT order_cancel_snapshots_pkey PRIMARY KEY (digest);


--
-- Name: order_cancel_stops order_cancel_stops_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_stops
    ADD CONSTRAINT order_cancel_stops_pkey PRIMARY KEY (run_id);


--
-- Name: order_cancel_tokens order_cancel_tokens_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_tokens
    ADD CONSTRAINT order_cancel_tokens_pkey PRIMARY KEY (key);


--
-- Name: order_cancel_transactions order_cancel_transactions_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_transactions
    ADD CONSTRAINT order_cancel_transactions_pkey PRIMARY KEY (host, flow, pk);


--
-- Name: order_cancel_version order_cancel_version_pkc; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_version
    ADD CONSTRAINT order_cancel_version_pkc PRIMARY KEY (version_num);


--
-- Name: order_cancel_bodies_by_plan; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX order_cancel_bodies_by_plan ON public.order_cancel_bodies USING btree (plan_id, kind, id);


--
-- Name: order_cancel_bodies_by_time; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX order_cancel_bodies_by_time ON public.order_cancel_bodies USING btree (at);


--
-- Name: order_cancel_events_by_plan; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX order_cancel_events_by_plan ON public.order_cancel_events USING btree (plan_id, id);


--
-- Name: order_cancel_members_by_lot; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX order_cancel_members_by_lot ON public.order_cancel_members USING btree (run_id, lane, lot, "position");


--
-- Name: order_cancel_members_by_plan; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX order_cancel_members_by_plan ON public.order_cancel_members USING btree (plan_id);


--
-- Name: order_cancel_plans_by_age; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX order_cancel_plans_by_age ON public.order_cancel_plans USING btree (flow, pruned, updated_at);


--
-- Name: order_cancel_plans_by_error; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX order_cancel_plans_by_error ON public.order_cancel_plans USING btree (flow, updated_at, id) WHERE (error IS NOT NULL);


--
-- Name: order_cancel_plans_by_move; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX order_cancel_plans_by_move ON public.order_cancel_plans USING btree (flow, state, updated_at, id);


--
-- Name: order_cancel_plans_by_order; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX order_cancel_plans_by_order ON public.order_cancel_plans USING btree (order_number);


--
-- Name: order_cancel_plans_by_relation; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX order_cancel_plans_by_relation ON public.order_cancel_plans USING btree (flow, relation, updated_at, id) WHERE ((relation)::text <> 'continue'::text);


--
-- Name: order_cancel_plans_by_state; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX order_cancel_plans_by_state ON public.order_cancel_plans USING btree (flow, host, state, id);


--
-- Name: order_cancel_plans_by_transaction; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX order_cancel_plans_by_transaction ON public.order_cancel_plans USING btree (flow, transaction_pk);


--
-- Name: order_cancel_bodies order_cancel_bodies_plan_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_bodies
    ADD CONSTRAINT order_cancel_bodies_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES public.order_cancel_plans(id);


--
-- Name: order_cancel_events order_cancel_events_plan_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_events
    ADD CONSTRAINT order_cancel_events_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES public.order_cancel_plans(id);


--
-- Name: order_cancel_members order_cancel_members_plan_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_members
    ADD CONSTRAINT order_cancel_members_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES public.order_cancel_plans(id);


--
-- Name: order_cancel_members order_cancel_members_run_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.order_cancel_members
    ADD CONSTRAINT order_cancel_members_run_id_fkey FOREIGN KEY (run_id) REFERENCES public.order_cancel_runs(id);


--
-- PostgreSQL database dump complete
--


