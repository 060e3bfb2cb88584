// An API for articles: kept in Postgres, found by Elasticsearch.
package main

import (
	"database/sql"
	"fmt"
	"log"
	"net/http"
	"os"

	_ "github.com/lib/pq"
)

func main() {
	db, err := sql.Open("postgres", os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if len(os.Args) > 1 && os.Args[1] == "migrate" {
		if err := migrate(db); err != nil {
			log.Fatal(err)
		}
		return
	}
	fmt.Println("listening on http://127.0.0.1:8080")
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", newServer(db, os.Getenv("ELASTICSEARCH_URL"))))
}
