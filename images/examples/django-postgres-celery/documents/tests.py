import time

from django.test import TransactionTestCase

from .models import Document
from .tasks import count_words


class Documents(TransactionTestCase):
    def post(self, text):
        return self.client.post("/documents/", {"text": text}, content_type="application/json")

    def test_a_document_is_kept_and_listed(self):
        self.assertEqual(self.post("one two").status_code, 201)
        listed = self.client.get("/documents/").json()["documents"]
        self.assertEqual([row["text"] for row in listed], ["one two"])

    def test_an_empty_document_is_refused(self):
        self.assertEqual(self.post("  ").status_code, 422)

    def test_the_worker_counts_its_words(self):
        """From the request through Redis to the worker and back by way of Postgres."""
        number = self.post("three little words").json()["id"]
        for _ in range(150):
            if self.client.get(f"/documents/{number}/").json()["words"] is not None:
                break
            time.sleep(0.2)
        self.assertEqual(Document.objects.get(pk=number).words, 3)

    def test_a_task_gives_its_result(self):
        document = Document.objects.create(text="just two")
        self.assertEqual(count_words.delay(document.pk).get(timeout=30), 2)
