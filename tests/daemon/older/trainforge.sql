PRAGMA application_id = 1413892657;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE attempts (
            job INTEGER NOT NULL,
            number INTEGER NOT NULL,
            body TEXT NOT NULL);
INSERT INTO "attempts" VALUES(1,1,'{"job":1,"number":1,"gpus":["GPU-sim-9e5fc397-54d7-ad0d-4ccf-767aa2e1991f"],"granted_at":1795826054.32182,"started_at":1795826054.422818,"ended_at":1795826054.5281153,"reason":"succeeded","end":{"started_at":1795826054.422818,"ended_at":1795826054.5281153,"exit_code":0,"ranks":[{"rank":0,"pid":26377,"exit_code":0,"ended_at":1795826054.5279138}]}}');
INSERT INTO "attempts" VALUES(2,1,'{"job":2,"number":1,"granted_at":1795826054.591524,"started_at":1795826054.6549094,"ended_at":1795826054.6552002,"reason":"user_error","end":{"started_at":1795826054.6549094,"ended_at":1795826054.6552002,"exit_code":3,"tails":{"0":""}}}');
CREATE TABLE devices (uuid TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "devices" VALUES('GPU-sim-9e5fc397-54d7-ad0d-4ccf-767aa2e1991f','{"uuid":"GPU-sim-9e5fc397-54d7-ad0d-4ccf-767aa2e1991f","index":0,"name":"Simulated GPU","memory_total":85899345920}');
INSERT INTO "devices" VALUES('GPU-sim-fd233882-8678-7cbd-0461-32629fa8dd1a','{"uuid":"GPU-sim-fd233882-8678-7cbd-0461-32629fa8dd1a","index":1,"name":"Simulated GPU","memory_total":85899345920}');
CREATE TABLE events (
            id INTEGER PRIMARY KEY,
            time REAL NOT NULL,
            type TEXT NOT NULL,
            job INTEGER,
            message TEXT NOT NULL,
            data TEXT);
INSERT INTO "events" VALUES(1,1.7958260542521204948e+09,'gpu_found',NULL,'GPU 0: Simulated GPU','{"gpu":"GPU-sim-9e5fc397-54d7-ad0d-4ccf-767aa2e1991f"}');
INSERT INTO "events" VALUES(2,1.7958260542521204948e+09,'gpu_found',NULL,'GPU 1: Simulated GPU','{"gpu":"GPU-sim-fd233882-8678-7cbd-0461-32629fa8dd1a"}');
INSERT INTO "events" VALUES(3,1795826054.32182,'job_submitted',1,'trained was submitted by root',NULL);
INSERT INTO "events" VALUES(4,1.79582605442354416845e+09,'attempt_started',1,'attempt 1 started',NULL);
INSERT INTO "events" VALUES(5,1.795826054544557333e+09,'attempt_ended',1,'attempt 1: ended with 0','{"attempt":1,"reason":"succeeded","exit_code":0}');
INSERT INTO "events" VALUES(6,1.795826054544557333e+09,'job_succeeded',1,'ended with 0','{"reason":"succeeded","exit_code":0}');
INSERT INTO "events" VALUES(7,1.79582605459152388569e+09,'job_submitted',2,'failing was submitted by root',NULL);
INSERT INTO "events" VALUES(8,1.79582605465559244153e+09,'attempt_started',2,'attempt 1 started',NULL);
INSERT INTO "events" VALUES(9,1.79582605466302585596e+09,'attempt_ended',2,'attempt 1: ended with 3','{"attempt":1,"reason":"user_error","exit_code":3}');
INSERT INTO "events" VALUES(10,1.79582605466302585596e+09,'job_failed',2,'ended with 3','{"reason":"user_error","exit_code":3}');
INSERT INTO "events" VALUES(11,1.79582605468660759929e+09,'job_submitted',3,'held was submitted by root',NULL);
INSERT INTO "events" VALUES(12,1.79582605468872547145e+09,'job_submitted',4,'after was submitted by root',NULL);
CREATE TABLE jobs (
            id INTEGER PRIMARY KEY,
            state TEXT NOT NULL,
            user TEXT NOT NULL,
            name TEXT NOT NULL,
            ended_at REAL,
            body TEXT NOT NULL);
INSERT INTO "jobs" VALUES(1,'succeeded','root','trained',1.79582605452811527252e+09,'{"id":1,"name":"trained","user":"root","state":"succeeded","submitted_at":1795826054.32182,"script":true,"resources":{"gpu":1,"cpu":1,"memory":null},"schedule":{"priority":0,"time_limit":null,"after":[],"begin":null},"recovery":{"max_retries":3,"backoff":10.0,"hang_timeout":"auto","grace":60.0},"started_at":1795826054.4235442,"ended_at":1795826054.5281153,"attempt":1,"spent":0.10529732704162598,"furthest":4.0,"exit_code":0}');
INSERT INTO "jobs" VALUES(2,'failed','root','failing',1.79582605465520024298e+09,'{"id":2,"name":"failing","user":"root","state":"failed","submitted_at":1795826054.591524,"script":false,"resources":{"gpu":0,"cpu":null,"memory":null},"schedule":{"priority":0,"time_limit":null,"after":[],"begin":null},"recovery":{"max_retries":0,"backoff":10.0,"hang_timeout":"auto","grace":60.0},"reason":"user_error","started_at":1795826054.6555924,"ended_at":1795826054.6552002,"attempt":1,"spent":0.00029087066650390625,"evidence":"ended with 3","exit_code":3}');
INSERT INTO "jobs" VALUES(3,'held','root','held',NULL,'{"id":3,"name":"held","user":"root","state":"held","submitted_at":1795826054.6866076,"script":false,"resources":{"gpu":0,"cpu":null,"memory":null},"schedule":{"priority":0,"time_limit":null,"after":[],"begin":null},"recovery":{"max_retries":0,"backoff":10.0,"hang_timeout":"auto","grace":60.0}}');
INSERT INTO "jobs" VALUES(4,'queued','root','after',NULL,'{"id":4,"name":"after","user":"root","state":"queued","submitted_at":1795826054.6887255,"script":false,"resources":{"gpu":0,"cpu":null,"memory":null},"schedule":{"priority":0,"time_limit":null,"after":[3],"begin":null},"recovery":{"max_retries":0,"backoff":10.0,"hang_timeout":"auto","grace":60.0}}');
CREATE TABLE leases (job INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO "meta" VALUES('highest_id',4);
INSERT INTO "meta" VALUES('machine','{"cpu":16,"memory":68719476736,"room":true}');
CREATE TABLE submissions (
            job INTEGER PRIMARY KEY,
            user TEXT NOT NULL,
            request_id TEXT NOT NULL,
            manifest TEXT,
            shell TEXT,
            body TEXT NOT NULL);
INSERT INTO "submissions" VALUES(1,'root','8377c2612ea34f94be8256a3696e4d6e',NULL,'9a15e863f3d4a47df10540ac0d47af6852c90f61a21871ec868ec3c90464fb69','{"spec":{"project":{"name":"trained","description":"","include":[],"exclude":[],"link":[]},"training":{"script":"report-old.py","args":[],"requirements":null,"command":null},"resources":{"gpu":1,"cpu":1,"memory":null},"environment":{"base_image":null,"python":"/usr/bin/python3","env":{}},"schedule":{"priority":0,"time_limit":null,"after":[],"begin":null},"recovery":{"max_retries":3,"backoff":10.0,"hang_timeout":"auto","grace":60.0},"checkpoints":{"dir":"checkpoints","keep":3}},"request_id":"8377c2612ea34f94be8256a3696e4d6e","workdir":"/tmp","shell":"9a15e863f3d4a47df10540ac0d47af6852c90f61a21871ec868ec3c90464fb69"}');
INSERT INTO "submissions" VALUES(2,'root','d4d2b2167d6d40d78b5a4e5979efce2f',NULL,'9a15e863f3d4a47df10540ac0d47af6852c90f61a21871ec868ec3c90464fb69','{"spec":{"project":{"name":"failing","description":"","include":[],"exclude":[],"link":[]},"training":{"script":null,"args":[],"requirements":null,"command":["sh","-c","exit 3"]},"resources":{"gpu":0,"cpu":null,"memory":null},"environment":{"base_image":null,"python":"current","env":{}},"schedule":{"priority":0,"time_limit":null,"after":[],"begin":null},"recovery":{"max_retries":0,"backoff":10.0,"hang_timeout":"auto","grace":60.0},"checkpoints":{"dir":"checkpoints","keep":3}},"request_id":"d4d2b2167d6d40d78b5a4e5979efce2f","workdir":"/tmp","shell":"9a15e863f3d4a47df10540ac0d47af6852c90f61a21871ec868ec3c90464fb69"}');
INSERT INTO "submissions" VALUES(3,'root','a62e2879eed040e7b82ed76255ec5ff3',NULL,'9a15e863f3d4a47df10540ac0d47af6852c90f61a21871ec868ec3c90464fb69','{"spec":{"project":{"name":"held","description":"","include":[],"exclude":[],"link":[]},"training":{"script":null,"args":[],"requirements":null,"command":["true"]},"resources":{"gpu":0,"cpu":null,"memory":null},"environment":{"base_image":null,"python":"current","env":{}},"schedule":{"priority":0,"time_limit":null,"after":[],"begin":null},"recovery":{"max_retries":0,"backoff":10.0,"hang_timeout":"auto","grace":60.0},"checkpoints":{"dir":"checkpoints","keep":3}},"request_id":"a62e2879eed040e7b82ed76255ec5ff3","workdir":"/tmp","shell":"9a15e863f3d4a47df10540ac0d47af6852c90f61a21871ec868ec3c90464fb69"}');
INSERT INTO "submissions" VALUES(4,'root','bc8049af58804d10bb403c363ebf00ec',NULL,'9a15e863f3d4a47df10540ac0d47af6852c90f61a21871ec868ec3c90464fb69','{"spec":{"project":{"name":"after","description":"","include":[],"exclude":[],"link":[]},"training":{"script":null,"args":[],"requirements":null,"command":["true"]},"resources":{"gpu":0,"cpu":null,"memory":null},"environment":{"base_image":null,"python":"current","env":{}},"schedule":{"priority":0,"time_limit":null,"after":[3],"begin":null},"recovery":{"max_retries":0,"backoff":10.0,"hang_timeout":"auto","grace":60.0},"checkpoints":{"dir":"checkpoints","keep":3}},"request_id":"bc8049af58804d10bb403c363ebf00ec","workdir":"/tmp","shell":"9a15e863f3d4a47df10540ac0d47af6852c90f61a21871ec868ec3c90464fb69"}');
CREATE INDEX jobs_by_state ON jobs (state, id, user, name);
CREATE INDEX jobs_by_end ON jobs (ended_at) WHERE ended_at IS NOT NULL;
CREATE UNIQUE INDEX submissions_by_request ON submissions (user, request_id);
CREATE UNIQUE INDEX attempts_by_job ON attempts (job, number);
CREATE INDEX events_by_job ON events (job, id) WHERE job IS NOT NULL;
COMMIT;
