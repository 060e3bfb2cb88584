package main

import (
	"database/sql"
	"embed"
	"fmt"
	"sort"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the database up to the newest of migrations/, in order, each in its own transaction.
func migrate(db *sql.DB) error {
	if _, err := db.Exec("create table if not exists migrations (name text primary key)"); err != nil {
		return err
	}
	entries, err := migrations.ReadDir("migrations")
	if err != nil {
		return err
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	for _, entry := range entries {
		if err := apply(db, entry.Name()); err != nil {
			return fmt.Errorf("%s: %w", entry.Name(), err)
		}
	}
	return nil
}

func apply(db *sql.DB, name string) error {
	var done bool
	err := db.QueryRow("select exists (select from migrations where name = $1)", name).Scan(&done)
	if err != nil || done {
		return err
	}
	text, err := migrations.ReadFile("migrations/" + name)
	if err != nil {
		return err
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.Exec(string(text)); err != nil {
		return err
	}
	if _, err := tx.Exec("insert into migrations values ($1)", name); err != nil {
		return err
	}
	fmt.Println("migrated:", name)
	return tx.Commit()
}
