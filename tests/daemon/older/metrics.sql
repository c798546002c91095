PRAGMA application_id = 1413893425;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE notes (
            id INTEGER PRIMARY KEY,
            job INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            rank INTEGER NOT NULL,
            body TEXT NOT NULL);
CREATE TABLE places (
            job INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            rank INTEGER NOT NULL,
            offset INTEGER NOT NULL,
            in_long_line INTEGER NOT NULL,
            PRIMARY KEY (job, attempt, rank)) WITHOUT ROWID;
INSERT INTO "places" VALUES(1,1,0,394,0);
CREATE TABLE progress (job INTEGER PRIMARY KEY, body TEXT NOT NULL);
INSERT INTO "progress" VALUES(1,'{"attempt":1,"progress":{"step":4.0,"steps":null,"epoch":null,"epochs":null,"eta":null,"fraction":null,"metrics":{"loss":0.2},"phase":null,"time":"2026-11-28T00:34:14.504211Z"},"pace":{"marks":[[1795826054.503491,0.0,null],[1795826054.504211,4.0,null]],"last":[1795826054.504211,4.0,null]}}');
CREATE TABLE samples (
            series INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            n INTEGER NOT NULL,
            value REAL,
            step REAL,
            epoch REAL,
            time REAL NOT NULL,
            PRIMARY KEY (series, attempt, n)) WITHOUT ROWID;
INSERT INTO "samples" VALUES(1,1,0,1.0,0.0,NULL,1.79582605450349092482e+09);
INSERT INTO "samples" VALUES(1,1,1,0.5,1.0,NULL,1.79582605450417923925e+09);
INSERT INTO "samples" VALUES(1,1,2,3.33333333333333314829e-01,2.0,NULL,1.79582605450419783591e+09);
INSERT INTO "samples" VALUES(1,1,3,0.25,3.0,NULL,1.79582605450420546532e+09);
INSERT INTO "samples" VALUES(1,1,4,0.2,4.0,NULL,1.79582605450421094899e+09);
CREATE TABLE series (
            id INTEGER PRIMARY KEY,
            job INTEGER,
            rank INTEGER NOT NULL,
            name TEXT NOT NULL,
            has_nan INTEGER NOT NULL DEFAULT 0);
INSERT INTO "series" VALUES(1,1,0,'loss',0);
CREATE TABLE starts (
            job INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            step REAL,
            epoch REAL,
            PRIMARY KEY (job, attempt)) WITHOUT ROWID;
INSERT INTO "starts" VALUES(1,1,0.0,NULL);
CREATE UNIQUE INDEX series_by_job ON series (job, rank, name);
CREATE INDEX notes_by_job ON notes (job);
COMMIT;
