// Benthos with one output of ours: a batch is one transaction on SQLite.
package main

import (
	"context"
	"database/sql"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	_ "modernc.org/sqlite"
)

const table = `CREATE TABLE IF NOT EXISTS events (
	topic TEXT NOT NULL, event_id TEXT NOT NULL, timestamp TEXT NOT NULL, source TEXT NOT NULL,
	payload TEXT NOT NULL, UNIQUE (topic, event_id))`
const insert = `INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)`

type output struct {
	path string
	db   *sql.DB
}

func (o *output) Connect(ctx context.Context) error {
	db, err := sql.Open("sqlite", "file:"+o.path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	o.db = db
	_, err = db.ExecContext(ctx, table)
	return err
}

func (o *output) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	tx, err := o.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	statement, err := tx.PrepareContext(ctx, insert)
	if err != nil {
		return err
	}
	defer statement.Close()
	for _, message := range batch {
		content, err := message.AsStructured()
		if err != nil {
			return err
		}
		event := content.(map[string]any)
		payload := service.NewMessage(nil)
		payload.SetStructured(event["payload"])
		text, err := payload.AsBytes()
		if err != nil {
			return err
		}
		if _, err = statement.ExecContext(ctx, event["topic"], event["event_id"], event["timestamp"], event["source"], string(text)); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (o *output) Close(context.Context) error {
	return o.db.Close()
}

func main() {
	spec := service.NewConfigSpec().Field(service.NewStringField("path"))
	err := service.RegisterBatchOutput("sqlite", spec,
		func(config *service.ParsedConfig, _ *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
			path, err := config.FieldString("path")
			return &output{path: path}, service.BatchPolicy{}, 16, err
		})
	if err != nil {
		panic(err)
	}
	service.RunCLI(context.Background())
}
