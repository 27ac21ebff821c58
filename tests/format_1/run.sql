BEGIN TRANSACTION;
CREATE TABLE artefacts (file TEXT PRIMARY KEY, sha256 TEXT NOT NULL, lineage TEXT NOT NULL);
INSERT INTO "artefacts" VALUES('embedding/embedding_model_weights.pt','8e29e31b0023a014cd8702baa0d31965a94c40ff6c6f98baff5df256ffc77ddb','{"digest": "605053044583a3cacda1463970096f0a0567bdfcec350d0b42d868fbae494b6f", "answers": 6}');
INSERT INTO "artefacts" VALUES('embedding/embedding.npy','57400803c51bd8ee110096a7ef95dbf469b27514f8d0307c08b7c5cb628e678b','{"network": "605053044583a3cacda1463970096f0a0567bdfcec350d0b42d868fbae494b6f", "photos": "1363c3e8923d8ded17c6e2601657cf21529575a703320c6a8fe15adde17be9d7"}');
INSERT INTO "artefacts" VALUES('embedding/photos.npz','65bdd89b0d4df9cb9dce75c14654decb153d406d5ae6adffdabd532785b3bef3','{"network": "605053044583a3cacda1463970096f0a0567bdfcec350d0b42d868fbae494b6f", "photos": "1363c3e8923d8ded17c6e2601657cf21529575a703320c6a8fe15adde17be9d7"}');
INSERT INTO "artefacts" VALUES('classifier/classifier.npz','27072f71b5f1a0c17ce70a95702293bde5746b1910993aa7a8f51da3acb9f13c','{"network": "605053044583a3cacda1463970096f0a0567bdfcec350d0b42d868fbae494b6f", "photos": "1363c3e8923d8ded17c6e2601657cf21529575a703320c6a8fe15adde17be9d7", "labels": "cbd547cb40f053866a598260d0103ece82f27ef00622973d82a9e5b34642d1a6", "candidates": "10b70282aa5c3cfc0e26d150590c331f971112985ebecf8532ca4e7abb059fa7", "settings": "(''mlp'', {''hidden_layer_sizes'': (16,), ''max_iter'': 200}, True)", "n_classes": 3}');
CREATE TABLE classes (class_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
INSERT INTO "classes" VALUES(0,'Red Deer');
INSERT INTO "classes" VALUES(1,'badger');
INSERT INTO "classes" VALUES(2,'fox');
CREATE TABLE evaluations (train_set_size INTEGER PRIMARY KEY, metrics TEXT NOT NULL);
INSERT INTO "evaluations" VALUES(9,'{"accuracy": 0.3333333333333333, "micro_precision": 0.3333333333333333, "micro_recall": 0.3333333333333333, "macro_precision": 0.1111111111111111, "macro_recall": 0.3333333333333333, "macro_f1": 0.16666666666666666, "conf_mat_classes": ["Red Deer", "badger", "fox"], "n_images": 3}');
INSERT INTO "evaluations" VALUES(12,'{"accuracy": 0.3333333333333333, "micro_precision": 0.3333333333333333, "micro_recall": 0.3333333333333333, "macro_precision": 0.1111111111111111, "macro_recall": 0.3333333333333333, "macro_f1": 0.16666666666666666, "conf_mat_classes": ["Red Deer", "badger", "fox"], "n_images": 3}');
INSERT INTO "evaluations" VALUES(15,'{"accuracy": 0.3333333333333333, "micro_precision": 0.3333333333333333, "micro_recall": 0.3333333333333333, "macro_precision": 0.1111111111111111, "macro_recall": 0.3333333333333333, "macro_f1": 0.16666666666666666, "conf_mat_classes": ["Red Deer", "badger", "fox"], "n_images": 3}');
CREATE TABLE label_events (
    event INTEGER PRIMARY KEY, happened_at TEXT NOT NULL, round INTEGER NOT NULL REFERENCES queries,
    photo_row INTEGER NOT NULL REFERENCES photos, old_class INTEGER, new_class INTEGER NOT NULL, source TEXT NOT NULL
);
INSERT INTO "label_events" VALUES(1,'2026-11-26T02:51:51+00:00',1,17,NULL,1,'expert');
INSERT INTO "label_events" VALUES(2,'2026-11-26T02:51:51+00:00',1,18,NULL,1,'expert');
INSERT INTO "label_events" VALUES(3,'2026-11-26T02:51:51+00:00',1,11,NULL,1,'expert');
INSERT INTO "label_events" VALUES(4,'2026-11-26T02:51:52+00:00',2,10,NULL,0,'expert');
INSERT INTO "label_events" VALUES(5,'2026-11-26T02:51:52+00:00',2,16,NULL,0,'expert');
INSERT INTO "label_events" VALUES(6,'2026-11-26T02:51:52+00:00',2,9,NULL,0,'expert');
CREATE TABLE photos (
    photo_row INTEGER PRIMARY KEY, role INTEGER NOT NULL, path TEXT NOT NULL,
    class_id INTEGER REFERENCES classes, set_aside TEXT, UNIQUE (role, path)
);
INSERT INTO "photos" VALUES(0,0,'Red Deer/t0.ppm',0,NULL);
INSERT INTO "photos" VALUES(1,0,'Red Deer/t1.ppm',0,NULL);
INSERT INTO "photos" VALUES(2,0,'Red Deer/t2.ppm',0,NULL);
INSERT INTO "photos" VALUES(3,0,'badger/t0.ppm',1,NULL);
INSERT INTO "photos" VALUES(4,0,'badger/t1.ppm',1,NULL);
INSERT INTO "photos" VALUES(5,0,'badger/t2.ppm',1,NULL);
INSERT INTO "photos" VALUES(6,0,'fox/t0.ppm',2,NULL);
INSERT INTO "photos" VALUES(7,0,'fox/t1.ppm',2,NULL);
INSERT INTO "photos" VALUES(8,0,'fox/t2.ppm',2,NULL);
INSERT INTO "photos" VALUES(9,1,'site 0/Red Deer_0.ppm',0,NULL);
INSERT INTO "photos" VALUES(10,1,'site 0/Red Deer_2.ppm',0,NULL);
INSERT INTO "photos" VALUES(11,1,'site 0/badger_0.ppm',1,NULL);
INSERT INTO "photos" VALUES(12,1,'site 0/badger_2.ppm',NULL,NULL);
INSERT INTO "photos" VALUES(13,1,'site 0/fox_0.ppm',NULL,NULL);
INSERT INTO "photos" VALUES(14,1,'site 0/fox_2.ppm',NULL,NULL);
INSERT INTO "photos" VALUES(15,1,'site 1/Red Deer_1.ppm',NULL,NULL);
INSERT INTO "photos" VALUES(16,1,'site 1/Red Deer_3.ppm',0,NULL);
INSERT INTO "photos" VALUES(17,1,'site 1/badger_1.ppm',1,NULL);
INSERT INTO "photos" VALUES(18,1,'site 1/badger_3.ppm',1,NULL);
INSERT INTO "photos" VALUES(19,1,'site 1/fox_1.ppm',NULL,NULL);
INSERT INTO "photos" VALUES(20,1,'site 1/fox_3.ppm',NULL,NULL);
INSERT INTO "photos" VALUES(21,2,'Red Deer/v.ppm',0,NULL);
INSERT INTO "photos" VALUES(22,2,'badger/v.ppm',1,NULL);
INSERT INTO "photos" VALUES(23,2,'fox/v.ppm',2,NULL);
CREATE TABLE queries (round INTEGER PRIMARY KEY, asked_at TEXT NOT NULL, answered_at TEXT);
INSERT INTO "queries" VALUES(1,'2026-11-26T02:51:51+00:00','2026-11-26T02:51:51+00:00');
INSERT INTO "queries" VALUES(2,'2026-11-26T02:51:52+00:00','2026-11-26T02:51:52+00:00');
INSERT INTO "queries" VALUES(3,'2026-11-26T02:51:52+00:00',NULL);
CREATE TABLE query_rows (
    round INTEGER NOT NULL REFERENCES queries, position INTEGER NOT NULL,
    photo_row INTEGER NOT NULL REFERENCES photos, PRIMARY KEY (round, position)
);
INSERT INTO "query_rows" VALUES(1,0,17);
INSERT INTO "query_rows" VALUES(1,1,18);
INSERT INTO "query_rows" VALUES(1,2,11);
INSERT INTO "query_rows" VALUES(2,0,10);
INSERT INTO "query_rows" VALUES(2,1,16);
INSERT INTO "query_rows" VALUES(2,2,9);
INSERT INTO "query_rows" VALUES(3,0,12);
INSERT INTO "query_rows" VALUES(3,1,15);
INSERT INTO "query_rows" VALUES(3,2,20);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "settings" VALUES('use_pretrained','false');
INSERT INTO "settings" VALUES('embedding_arch','"resnet18"');
INSERT INTO "settings" VALUES('embedding_loss_type','"triplet"');
INSERT INTO "settings" VALUES('embedding_loss_margin','1.0');
INSERT INTO "settings" VALUES('embedding_loss_data_strategy','"random"');
INSERT INTO "settings" VALUES('feat_dim','8');
INSERT INTO "settings" VALUES('seed','1');
INSERT INTO "settings" VALUES('frozen.roots','{"TRAIN": "/photos/train", "UNLABELLED": "/photos/unlabelled", "VALIDATION": "/photos/validation"}');
INSERT INTO "settings" VALUES('frozen.pixel_statistics','[[0.6606185514163349, 0.3993382796742558, 0.26767691319284875], [0.23923395663528366, 0.10054356539894335, 0.0778487242569046]]');
COMMIT;
PRAGMA user_version = 1;
